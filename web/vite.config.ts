// Three pages, hashed assets, nothing inlined: the relay's Content-Security-Policy allows only files of
// its own origin. `npm run dev` passes the API on to a relay named in RELAY.
import { defineConfig, loadEnv } from "vite";

const { RELAY: relay = "http://127.0.0.1:8080" } = loadEnv("development", ".", "RELAY");

export default defineConfig({
  appType: "mpa",
  // Relative: a proxy may give the relay a path of its own.
  base: "./",
  build: {
    target: ["es2020", "chrome87", "firefox78", "safari14"],
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
    rolldownOptions: { input: ["index.html", "publish.html", "organizer.html"] },
  },
  server: {
    proxy: {
      "/api": { target: relay, ws: true },
      "/whip": relay,
      "/whep": relay,
      "/version": relay,
    },
  },
  test: { include: ["test/**/*.test.ts"], environment: "node" },
} as Parameters<typeof defineConfig>[0]);
