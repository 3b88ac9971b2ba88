// Builds the scripts and style sheets that pages load outside of development: a script for every page, one for rows of notifications, one
// for the open bell and toasts, one for inboxes, one for their reading pane, one for jobs, one for their output, one for keys, one that checks the bell in development, one for questions, that of preferences, and those of push, of which one is loaded when its key has changed. They are committed, so that neither a checkout nor the wheel needs npm. Run it after a module has changed: npm run bundle
// `npm run bundle -- --check` fails if the committed scripts are not those of the modules.
//
// The modules do not import one another, so each becomes a function that returns its exports. Each is minified alone, by
// Oxc, with which Vite 8 minifies: so the short names in each are the same, which gzip compresses better than one scope.

import { readFileSync, writeFileSync } from "node:fs";
import { transformSync } from "esbuild";
import { minifySync } from "vite";

const folder = new URL("../notifications/static/notifications/", import.meta.url);
/** The modules of each script, in the order that was found to compress best; page.js ends with the entry module. */
const MODULES = {
  page: "tabs connection polling job_handle jobs client stream requests connect notifications toasts bell_color localization forms dom bell",
  rows: "rows row_menu actions row_keys",
  panel: "toast_list bell_panel bell_place",
  inbox: "inbox_rows inbox_search inbox_list inbox inbox_state",
  pane: "reading_pane",
  job: "job_element job_texts",
  output: "output_search output_element output_reader job_events",
  shortcuts: "shortcuts",
  preferences: "preferences",
  push: "push",
  contrast: "bell_contrast",
};

/** @param {string} name of a module */
function minify(name) {
  const options = {
    module: true,
    compress: { target: "es2022" },
    mangle: { toplevel: true },
    codegen: { removeWhitespace: true },
  };
  const source = readFileSync(new URL(`${name}.js`, folder), "utf8");
  const { code, errors } = minifySync(`${name}.js`, source, options);
  if (errors?.length) throw new Error(`${name}.js: ${errors[0].message}`);
  return code.trim();
}

/** @param {string} name of a module */
function wrap(name) {
  const exported = [];
  const declaration = /\bexport ((?:const|class|(?:async )?function) (\w+))/g;
  const body = minify(name).replace(declaration, (_, declared, exportedName) => {
    exported.push(exportedName);
    return declared;
  });
  if (!exported.length || /\b(?:import|export)[ {*]/.test(body))
    throw new Error(`${name}.js: a module may not import another, and exports declarations only.`);
  return `${name}:(()=>{${body}return{${exported}}})()`;
}

const wrapAll = (names) => `export const modules={${names.split(" ").map(wrap)}};\n`;
const entry = `${minify("entry").replace(/export\{\};?$/, "")}\n`;
/** @param {string} names of the style sheets of a bundle, as client_files.py lists them */
const minifySheets = (names) => {
  const text = names.split(" ").map((name) => readFileSync(new URL(`${name}.css`, folder), "utf8"));
  const loaded = text.join("").replace(/url\("(\w+\.svg)"\)/g, "url(../$1)");
  return transformSync(loaded, { minify: true, loader: "css" }).code;
};
const files = {
  "initial.css": minifySheets("tokens initial"),
  "notifications.css": minifySheets("tokens initial notifications"),
  "pages.css": minifySheets("pages"),
  "entry.js": `${entry}export{};\n`,
  "page.js": wrapAll(MODULES.page) + entry,
  "rows.js": wrapAll(MODULES.rows),
  "panel.js": wrapAll(MODULES.panel),
  "inbox.js": wrapAll(MODULES.inbox),
  "pane.js": wrapAll(MODULES.pane),
  "job.js": wrapAll(MODULES.job),
  "output.js": wrapAll(MODULES.output),
  "contrast.js": wrapAll(MODULES.contrast),
  "shortcuts.js": wrapAll(MODULES.shortcuts),
  "preferences.js": wrapAll(MODULES.preferences),
  "push.js": wrapAll(MODULES.push),
  "push_key.js": `${minify("push_key").replace(/export\{\};?$/, "")}\n`,
  "question.js": `${minify("question").replace(/export\{\};?$/, "")}\n`,
  "push_worker.js": `${minify("push_worker").replace(/export\{\};?$/, "")}\n`,
};
for (const [name, text] of Object.entries(files)) {
  const file = new URL(`bundle/${name}`, folder);
  if (!process.argv.includes("--check")) writeFileSync(file, text);
  else if (readFileSync(file, "utf8") !== text)
    throw new Error(`bundle/${name} is not that of its sources. Run: npm run bundle`);
}
