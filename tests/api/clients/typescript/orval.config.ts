import { defineConfig } from "orval";

export default defineConfig({
  muster: {
    input: { target: "openapi.json" },
    output: {
      target: "generated/orval.ts",
      client: "fetch",
      mode: "single",
      headers: true,
      baseUrl: process.env["MUSTER_URL"] ?? "",
    },
  },
});
