// Builds the npm package into build/npm, or the folder of the first argument: the files of this folder, the modules of
// the Django app, and their types from JSDoc. Run: npm run build

import { execFileSync } from "node:child_process";
import { cpSync, mkdirSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { resolve } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";

const root = new URL("../", import.meta.url);
const target = pathToFileURL(`${resolve(process.argv[2] ?? fileURLToPath(new URL("build/npm", root)))}/`);
const modules = new URL("notifications/static/notifications/", root);
const copy = (name, from, to) => cpSync(new URL(name, from), new URL(name, to));

rmSync(target, { recursive: true, force: true });
mkdirSync(new URL("modules/", target), { recursive: true });
for (const name of ["index.js", "elements.js", "page.js", "package.json", "README.md"])
  copy(name, import.meta.url, target);
copy("LICENSE", root, target);
for (const name of readdirSync(modules)) {
  // The package has an entry of its own.
  if (name.endsWith(".js") && name !== "entry.js") copy(name, modules, new URL("modules/", target));
}

const project = new URL("tsconfig.json", target);
const compilerOptions = {
  allowJs: true,
  checkJs: true,
  declaration: true,
  emitDeclarationOnly: true,
  strict: true,
  target: "ES2023",
  module: "ES2022",
  moduleResolution: "bundler",
  lib: ["ES2023", "DOM", "DOM.Iterable"],
  types: [],
};
writeFileSync(project, JSON.stringify({ compilerOptions, include: ["**/*.js"] }));
const compiler = fileURLToPath(new URL("node_modules/typescript/bin/tsc", root));
execFileSync(process.execPath, [compiler, "--project", fileURLToPath(project)], { stdio: "inherit" });
rmSync(project);
