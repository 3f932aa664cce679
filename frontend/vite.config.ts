import { svelte } from "@sveltejs/vite-plugin-svelte";
import { defineConfig } from "vite";

/** Where `npm run dev` finds the API; the built page is served by the API itself. */
const api = process.env["TRIBUTARY_API"] ?? "http://127.0.0.1:8000";

export default defineConfig({
  plugins: [svelte()],
  server: { proxy: { "/api": { target: api, changeOrigin: true } } },
  build: {
    target: "es2022",
    // Fonts stay files of their own: inlined ones would need a wider content security policy.
    assetsInlineLimit: 0,
    chunkSizeWarningLimit: 400,
  },
});
