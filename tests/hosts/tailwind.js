// Compile a style sheet with Tailwind: node tailwind.js FILE.css CLASS… writes what a build would.

import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { compile } from "tailwindcss";

const [file, ...classes] = process.argv.slice(2);
const loadStylesheet = async (/** @type {string} */ id) => {
  const path = fileURLToPath(import.meta.resolve(id === "tailwindcss" ? "tailwindcss/index.css" : id));
  return { path, base: path, content: readFileSync(path, "utf8") };
};
const { build } = await compile(readFileSync(file, "utf8"), { loadStylesheet });
process.stdout.write(build(classes));
