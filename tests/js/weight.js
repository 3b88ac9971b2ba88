// Measures the weight of the browser client as pages load it, and fails above its budget. Run: npm run weight
// The files are those of js/bundle.js, compressed by gzip -9.

import { readFileSync } from "node:fs";
import { gzipSync } from "node:zlib";

const folder = new URL("../../notifications/static/notifications/", import.meta.url);
const read = (name) => readFileSync(new URL(name, folder), "utf8");

for (const [what, text, budget] of [
  ["every page", read("bundle/page.js"), 13_000], // The number of the bell is seen in a dark bar of a light page. A request that hangs is sent again, and what is too much for one is sent by several. One function sends all forms, knows the page to sign in, and says why something was refused.
  ["rows of notifications, in bell, toasts and inbox", read("bundle/rows.js"), 4_430], // What is beside a row is found without a look at the whole list. The first key loads what keys do, and the sheet of a row leads to all times until which it can be snoozed.
  ["open bell and toasts, besides", read("bundle/panel.js"), 4_400],
  ["inbox page, besides", read("bundle/inbox.js"), 6_300], // Nothing that it does at a verb grows with the list: it finds rows without a selector, tells the style sheet what is selected and shown, begins with what waits, changes and loads rows, groups, categories and all in place, selects groups beside rows, begins an open group with its errors, returns to a row that was followed, and snoozes.
  ["reading pane of a wide inbox, besides", read("bundle/pane.js"), 2_300], // It shows the end of a job that was tried again or has its answer there.
  ["keys, with the first one in a list", read("bundle/shortcuts.js"), 1_250],
  ["page with jobs, besides", read("bundle/job.js"), 2_950], // The timeline of a job follows it, by one request at a time for what is new, and only where it is seen. What has not changed in it stays, with the focus, the filter and what is open.
  ["page with output, besides", read("bundle/output.js"), 3_200], // Where a proxy holds events back, it is read by long polls. It is searched, and gives up room that was kept for it, where that is not seen.
  ["anonymous page, until it uses the client", read("bundle/entry.js"), 600],
  ["first styles, inside a page", read("bundle/initial.css"), 1_530],
  ["style sheet of every page", read("bundle/notifications.css"), 6_200],
  ["style sheet of the app's pages, besides", read("bundle/pages.css"), 5_110], // An inbox has up to 20 saved views. A job has a timeline, which leads to what failed, and a field that finds in its output. The inbox and the page of a job have two columns in a wide window, and a job has its outcome on a tint, and its height for those who watch its end.
]) {
  const bytes = gzipSync(text, { level: 9 }).length;
  console.log(`${what}: ${bytes} of ${budget} bytes`);
  if (bytes > budget) process.exitCode = 1;
}
