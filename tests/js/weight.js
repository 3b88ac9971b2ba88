// Measures the weight of the browser client, and fails above its budget. Run: npm run weight
//
// Each module is minified alone, as a page loads it: by Oxc, with which Vite 8 minifies bundles by default. The modules of
// a line are then compressed together by gzip -9, in the order in which the template tag names them.
//
// core          what speaks the protocol and follows jobs, without what connects it to a page (connect.js) and the elements
// every page    what each page of a signed-in user loads: entry, core, connect.js, bell, toasts, jobs, forms and times
// inbox page    every page, inbox.js and shortcuts.js: all JavaScript there is

import { readdirSync, readFileSync } from "node:fs";
import { gzipSync } from "node:zlib";
import { transformSync } from "esbuild";
import { minifySync } from "vite";

const folder = new URL("../../notifications/static/notifications/", import.meta.url);
const core = ["client", "connection", "polling", "tabs", "requests", "job_handle", "jobs", "stream"];
const elements = ["notifications", "localization", "dom", "bell", "toasts", "job_element", "forms"];
const everyPage = ["entry", ...core, "connect", ...elements];
const inboxPage = [...everyPage, "inbox", "shortcuts"];

const files = readdirSync(folder).filter((name) => name.endsWith(".js"));
const missing = files.filter((name) => !inboxPage.includes(name.replace(/\.js$/, "")));
if (missing.length) throw new Error(`weight.js does not count ${missing.join(", ")}.`);

const read = (name) => readFileSync(new URL(name, folder), "utf8");
const gzip = (text) => gzipSync(text, { level: 9 }).length;

const minifyModule = (name) => {
  const options = {
    module: true,
    compress: { target: "es2022" },
    mangle: { toplevel: true },
    codegen: { removeWhitespace: true },
  };
  const { code, errors } = minifySync(`${name}.js`, read(`${name}.js`), options);
  if (errors?.length) throw new Error(`${name}.js: ${errors[0].message}`);
  return code;
};
const styleSheet = transformSync(read("notifications.css"), { minify: true, loader: "css" }).code;

for (const [what, text, budget] of [
  ["core", core.map(minifyModule).join(""), 6_000],
  ["every page", everyPage.map(minifyModule).join(""), 14_000],
  ["inbox page, all JavaScript", inboxPage.map(minifyModule).join(""), 15_000],
  ["style sheet", styleSheet, 5_000],
]) {
  const bytes = gzip(text);
  console.log(`${what}: ${bytes} of ${budget} bytes`);
  if (bytes > budget) process.exitCode = 1;
}
