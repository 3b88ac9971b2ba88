import assert from "node:assert/strict";
import { test } from "node:test";
import { JOB, job, notification, settled, syncFrame } from "./fakes.js";
import { livePage, makePage } from "./page.js";

const SYNC = "GET /n/api/sync/";
const change = (seq, items, values = {}) => ({
  op: "change",
  n: 9,
  prev: seq - 1,
  seq,
  unread: 3,
  items,
  ...values,
});
const CONNECTED = { connected: true, reconnected: false, restored: true, signed_out: false };
const DISCONNECTED = { connected: false, reconnected: false, restored: false, signed_out: false };

function collect(page, type) {
  const details = [];
  page.stream.on(type, (detail) => details.push(detail));
  return details;
}

test("notification: each that is raised or changes, not those of a snapshot or of a list", () => {
  const page = livePage();
  const items = collect(page, "notification");
  page.last().receive(change(42, [notification("a", 42)]));
  page.last().receive(change(43, [notification("a", 43, { read_at: "2026-01-01T00:00:00Z" })]));
  page.client.merge([notification("old", 7)]);
  page
    .last()
    .receive(
      syncFrame({ n: 9, epoch: "e2", reset: true, prev: null, seq: 3, items: [notification("b", 3)] }),
    );
  assert.deepEqual(
    items.map((item) => [item.id, item.seq]),
    [
      ["a", 42],
      ["a", 43],
    ],
  );
});

test("job: each version once, however it arrives", () => {
  const page = livePage();
  const jobs = collect(page, "job");
  page.last().receive({ op: "jobs", n: 9, jobs: [job(2)] });
  page.client.merge([job(2)]);
  page.client.merge([job(3)]);
  page.last().receive(syncFrame({ n: 9, epoch: "e2", reset: true, prev: null, seq: 3, jobs: [job(3)] }));
  assert.deepEqual(
    jobs.map((item) => [item.id, item.version]),
    [
      [JOB, 2],
      [JOB, 3],
    ],
  );
});

test("unseen: the new number, which the stream has too", () => {
  const page = livePage();
  const counts = collect(page, "unseen");
  page.last().receive(change(42, [], { unseen: 5 }));
  assert.deepEqual(counts, [5]);
  assert.deepEqual([page.stream.unseen, page.stream.unread], [5, 3]);
});

test("state: connected once the first frame has arrived, with nothing missed since the page was rendered", () => {
  const page = makePage();
  const states = collect(page, "state");
  page.client.start();
  page.last().open();
  page.last().receive({ op: "welcome", n: 1, subscriber: "s1", protocol: 1, beat: 25 });
  assert.deepEqual(states, []);
  page.last().receive(syncFrame({ n: 2, prev: 41, seq: 41 }));
  assert.deepEqual(states, [CONNECTED]);
  assert.deepEqual(page.stream.state, CONNECTED);
});

for (const restored of [true, false]) {
  test(`state: a reconnect ${restored ? "restores what was missed" : "cannot restore what was missed"}`, async () => {
    const page = livePage({ random: () => 0 });
    const states = collect(page, "state");
    page.last().end(1006);
    await page.clock.advance(0);
    const position = restored ? { prev: 41 } : { prev: null, epoch: "e2", reset: true };
    page.last().welcome({ ...position, seq: 42, items: [notification("a", 42)] });
    assert.deepEqual(states, [DISCONNECTED, { ...CONNECTED, reconnected: true, restored }]);
  });
}

test("state: a snapshot on an open connection says that something was missed", () => {
  const page = livePage();
  const states = collect(page, "state");
  page.last().receive(syncFrame({ n: 9, epoch: "e2", reset: true, prev: null, seq: 3 }));
  page.last().receive(syncFrame({ n: 10, epoch: "e2", prev: 3, seq: 3 }));
  assert.deepEqual(states, [{ ...CONNECTED, reconnected: true, restored: false }]);
});

test("state: a page that polls is connected", async () => {
  const page = makePage({ routes: { [SYNC]: { json: syncFrame({ prev: 41, seq: 41 }) } }, random: () => 0 });
  const states = collect(page, "state");
  page.client.start();
  for (let failure = 0; failure < 2; failure += 1) {
    page.last().end(1006);
    await page.clock.advance(0);
  }
  assert.equal(page.client.state, "polling");
  assert.deepEqual(states, [CONNECTED]);
});

test("state: signed out, and signed in again", async () => {
  const routes = { [SYNC]: { json: syncFrame({ prev: null, seq: 50, reset: true }) } };
  const page = livePage({ routes });
  const states = collect(page, "state");
  page.last().end(4401);
  page.client.checkConnection();
  await settled();
  page.last().welcome({ prev: null, seq: 50, reset: true });
  assert.deepEqual(states, [
    { ...DISCONNECTED, signed_out: true },
    DISCONNECTED,
    { connected: true, reconnected: true, restored: false, signed_out: false },
  ]);
});

test("a removed listener is not called, and an unknown type is refused", () => {
  const page = livePage();
  const counts = [];
  page.stream.on("unseen", (count) => counts.push(count))();
  page.last().receive(change(42, [], { unseen: 5 }));
  assert.deepEqual(counts, []);
  assert.throws(() => page.stream.on("notifications", () => undefined), {
    name: "TypeError",
    message: "type must be one of notification, job, unseen, state.",
  });
});
