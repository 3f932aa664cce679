/** The graph view alone, on a made-up graph whose size the address says: ?tokens=&blocks=&nodes=&edges=. */

import "@fontsource-variable/source-serif-4/opsz.css";
import "@fontsource-variable/source-code-pro/wght.css";
import "../src/app.css";

import { mount } from "svelte";

import Bench from "./Bench.svelte";

const target = document.getElementById("app");
if (target === null) throw new Error("index.html has no element #app");
mount(Bench, { target });
