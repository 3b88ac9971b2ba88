// What the elements of a page share: requests about notifications, and whether there is an outage.

import assert from "node:assert/strict";
import { test } from "node:test";
import { notification } from "./fakes.js";
import { livePage } from "./page.js";

globalThis.addEventListener ??= () => {};
const { notificationActions, watchOutages } = await import(
  "../../notifications/static/notifications/notifications.js"
);

/** Build a page, its actions, and a list of what they send. */
function makeActions() {
  const sent = [];
  const answer = ({ init }) => {
    sent.push(JSON.parse(init.body));
    return { json: { more: false, undo: { number: sent.length } } };
  };
  const page = livePage({ routes: { "POST /seen/": answer, "POST /archive/": answer } });
  const urls = { seen: "/seen/", list: "/list?limit=" };
  const actions = notificationActions(page.client, page.jobs, urls, { archive: "/archive/" }, page.clock);
  return { page, actions, sent };
}

test("more rows than one request may have are marked by several", async () => {
  const { actions, sent } = makeActions();
  const items = Array.from({ length: 230 }, (_, number) => ({ id: `n${number}`, raised: number }));
  assert.deepEqual(await actions.mark("archive", items), [{ number: 1 }, { number: 2 }]);
  assert.deepEqual(
    sent.map(({ ids, up_to }) => [ids[0], ids.length, up_to]),
    [
      ["n0", 200, 229],
      ["n200", 30, 229],
    ],
  );
});

test("after the restore of a backup a lower position is seen", async () => {
  const { page, actions, sent } = makeActions();
  const raise = (id, prev, seq) =>
    page.last().receive({ op: "change", prev, seq, unread: 1, unseen: 1, items: [notification(id, seq)] });
  raise("a", 41, 500);
  await actions.markSeen(500);
  page.last().end(1006);
  await page.clock.advance(3_000);
  page.last().welcome({ epoch: "e2", reset: true, prev: null, seq: 450, unread: 0, unseen: 0 });
  raise("b", 450, 451);
  await actions.markSeen(451);
  assert.deepEqual(
    sent.map(({ up_to }) => up_to),
    [500, 451],
  );
});

test("the time in the back-forward cache is no outage", async () => {
  const page = livePage();
  const found = [];
  watchOutages(page.client, page.clock).onOutage((isOut) => found.push(isOut));
  page.client.stop();
  await page.clock.advance(60_000);
  page.client.start();
  page.last().welcome();
  assert.deepEqual(found, []);
  page.last().end(1006);
  await page.clock.advance(30_000);
  assert.deepEqual(found, [true]);
});
