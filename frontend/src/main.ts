import "@fontsource-variable/source-serif-4/opsz.css";
import "@fontsource-variable/source-code-pro/wght.css";
import "./app.css";

import { mount } from "svelte";

import App from "./App.svelte";
import { connection } from "./lib/api/connection.svelte";
import { right } from "./lib/autolabel/owner.svelte";

const target = document.getElementById("app");
if (target === null) throw new Error("index.html has no element #app");
right.watch();
connection.start();
mount(App, { target });
