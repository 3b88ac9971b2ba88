// Measures the weight of the browser client, minified by esbuild and compressed by gzip -9, and fails above its budget.
// The modules are measured together, as a bundle or a shared dictionary sends them. The core is what speaks the protocol and
// follows jobs, without what connects it to a page (connect.js) and the elements. Run: npm run weight

import { readdirSync, readFileSync } from "node:fs";
import { gzipSync } from "node:zlib";
import { transformSync } from "esbuild";

const folder = new URL("../../notifications/static/notifications/", import.meta.url);
const core = ["client", "connection", "polling", "tabs", "requests", "job_handle", "jobs", "stream"].map(
  (name) => `${name}.js`,
);
const all = readdirSync(folder).filter((name) => name.endsWith(".js"));

const minify = (name) => {
  const loader = name.endsWith(".css") ? "css" : "js";
  return transformSync(readFileSync(new URL(name, folder), "utf8"), {
    minify: true,
    loader,
    target: "es2022",
  }).code;
};
const weigh = (names) => gzipSync(names.map(minify).join(""), { level: 9 }).length;

for (const [what, names, budget] of [
  ["core", core, 6_000],
  ["all JavaScript", all, 16_000],
  ["style sheet", ["notifications.css"], 5_000],
]) {
  const bytes = weigh(names);
  console.log(`${what}: ${bytes} of ${budget} bytes`);
  if (bytes > budget) process.exitCode = 1;
}
