// One function sends the requests of pages: it knows what is success, and which page is that to sign in.

import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import { test } from "node:test";

const FOLDERS = ["notifications/static/notifications/", "asyncsite/static/asyncsite/"];
/** Modules that may send requests by themselves, and why. */
const OTHERS = {
  "connect.js": "gives fetch() to Requests and Poller, with the page to sign in",
  "forms.js": "asks whether the server can be reached, of anybody",
  "push_worker.js": "is a service worker, which takes no redirect",
  "theme.js": "stores static files in the cache",
  "inbox_list.js": "reads a page, which has to have what is searched in it",
  "job_element.js": "reads a page, which has to have what is searched in it",
  "live.js": "reads a part of a page, and loads the page again where it was redirected",
  "overview.js": "reads figures, and takes no redirect",
  "composer.js": "reads a preview, and takes no redirect",
  "output_reader.js": "opens an EventSource, which takes no page",
};

test("modules send their requests by Requests", () => {
  const found = [];
  for (const folder of FOLDERS) {
    const url = new URL(`../../${folder}`, import.meta.url);
    for (const name of readdirSync(url, { recursive: true })) {
      if (!name.endsWith(".js") || name.startsWith("bundle/")) continue;
      const source = readFileSync(new URL(name, url), "utf8").replace(/^\s*(\/\/|\/?\*).*$/gm, "");
      const sends = /(?<![#.\w])fetch\b(?!:)|XMLHttpRequest\(|EventSource\(|sendBeacon/.test(source);
      if (sends) found.push(name.split("/").at(-1));
    }
  }
  assert.deepEqual(found.sort(), [...Object.keys(OTHERS), "requests.js"].sort());
});
