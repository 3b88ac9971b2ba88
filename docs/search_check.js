// Run the search of the built docs, for conf.py: read pages by what is searched, and print what does not lead to its
// page within three hits, with the hits.
//
//     node search_check.js build/docs <searches.json

import { readFileSync } from "node:fs";
import { createContext, runInContext } from "node:vm";

const [folder] = process.argv.slice(2);
const page = createContext({ SPHINX_HIGHLIGHT_ENABLED: false, _: (text) => text, _ready() {} });
page.window = page;
page.document = { getElementById: () => null };
// In the order of search.html. A `const` of a script is no property of the window.
for (const name of ["_static/searchtools.js", "_static/language_data.js", "searchindex.js"])
  runInContext(readFileSync(`${folder}/${name}`, "utf8"), page);
runInContext("window.Search = Search", page);

for (const [query, wanted] of Object.entries(JSON.parse(readFileSync(0, "utf8")))) {
  const results = page.Search._performSearch(...page.Search._parseQuery(query));
  const hits = results.slice(-3).map(([name]) => name);
  if (!hits.includes(wanted)) console.log(`${query}: ${wanted} is not among ${hits.reverse().join(", ") || "no hits"}`);
}
