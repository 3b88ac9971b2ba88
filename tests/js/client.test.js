import assert from "node:assert/strict";
import { test } from "node:test";
import { JOB, job, notification, syncFrame } from "./fakes.js";
import { livePage, makePage } from "./page.js";

const change = (prev, seq, items, values = {}) => ({
  op: "change",
  n: 3,
  prev,
  seq,
  unread: 5,
  items,
  ...values,
});

test("hello is the first frame and carries the position of the page", () => {
  const page = makePage();
  page.client.start();
  page.last().open();
  assert.deepEqual(page.last().sent, [{ op: "hello", epoch: "e1", seq: 41 }]);
  assert.deepEqual(page.last().protocols, ["notifications.v1"]);
});

test("a change without items brings the unseen count, and an event only if it differs", () => {
  const page = livePage({ sync: { unread: 2, unseen: 2 } });
  const counts = [];
  page.client.on("unseen", (count) => counts.push(count));
  const { cursor } = page.client.stream;
  page.last().receive(change(cursor, cursor + 1, [], { unseen: 0 }));
  page.last().receive(change(cursor + 1, cursor + 2, [], { n: 4, unseen: 0 }));
  page.last().receive(change(cursor + 2, cursor + 3, [notification("a", cursor + 3)], { n: 5, unseen: 1 }));
  assert.deepEqual(counts, [0, 1]);
  assert.deepEqual([page.client.unread, page.client.unseen], [5, 1]);
});

test("a page without a position starts from a snapshot", () => {
  const page = makePage({ start: {} });
  page.client.start();
  page.last().open();
  assert.deepEqual(page.last().sent, [{ op: "hello", epoch: null, seq: null }]);
  page
    .last()
    .receive(syncFrame({ n: 2, reset: true, prev: null, seq: 9, unread: 1, items: [notification("a", 9)] }));
  assert.equal(page.client.stream.cursor, 9);
  assert.equal(page.client.unread, 1);
  assert.equal(page.changes[0].reset, true);
});

test("frames before the snapshot are dropped without another sync", () => {
  const page = makePage({ start: {} });
  page.client.start();
  page.last().open();
  page.last().receive({ op: "welcome", n: 1, subscriber: "s", protocol: 1, beat: 25 });
  page.last().receive(change(0, 3, [notification("a", 3)]));
  assert.deepEqual(page.last().ops(), ["hello"]);
  assert.equal(page.client.stream.notifications.size, 0);
});

test("the trace of the protocol leaves the documented cursor, unread count and items", () => {
  const page = makePage();
  page.client.start();
  const socket = page.last();
  const other = "0192aaaa-0000-7000-8000-000000000002";
  socket.welcome({
    prev: 41,
    seq: 44,
    unread: 2,
    items: [
      notification("n1", 43, { raised: 40, read_at: "2026-01-01T00:00:01Z" }),
      job(5, { id: other, state: "succeeded", seq: 44 }),
    ],
    jobs: [job(7)],
  });
  socket.receive({ op: "jobs", n: 3, jobs: [job(8)] });
  assert.equal(page.client.stream.cursor, 44);
  socket.receive(
    change(44, 46, [job(9, { state: "succeeded", seq: 45 }), notification("n2", 46)], { unread: 3 }),
  );
  socket.receive(
    change(46, 47, [notification("n2", 47, { raised: 46, read_at: "2026-01-01T00:00:02Z" })], { unread: 2 }),
  );
  socket.receive({ op: "beat", seq: 47 });
  assert.equal(page.client.stream.cursor, 47);
  assert.equal(page.client.unread, 2);
  assert.equal(page.client.stream.jobs.get(JOB).version, 9);
  assert.equal(page.client.stream.notifications.get("n2").seq, 47);
  assert.deepEqual(socket.ops(), ["hello"]);
});

test("a gap sends one sync and drops the frame", () => {
  const page = livePage();
  page.last().receive(change(44, 45, [notification("late", 45)]));
  page.last().receive(change(45, 46, [notification("later", 46)]));
  assert.deepEqual(page.last().sent, [{ op: "sync", seq: 41 }]);
  assert.equal(page.client.stream.notifications.size, 0);
  page.last().receive(
    syncFrame({
      n: 5,
      prev: 41,
      seq: 46,
      unread: 4,
      items: [notification("late", 45), notification("later", 46)],
    }),
  );
  assert.equal(page.client.stream.cursor, 46);
  assert.equal(page.client.unread, 4);
  page.last().receive(change(48, 49, []));
  assert.deepEqual(page.last().sent.at(-1), { op: "sync", seq: 46 });
});

test("an overlapping frame is applied, but not its older unread count and rows", () => {
  const page = livePage({
    sync: { prev: 41, seq: 46, unread: 7, items: [notification("a", 46, { raised: 42 })] },
  });
  page
    .last()
    .receive(change(41, 44, [notification("a", 44, { raised: 42 }), notification("b", 43)], { unread: 1 }));
  assert.equal(page.client.stream.cursor, 46);
  assert.equal(page.client.unread, 7);
  assert.equal(page.client.stream.notifications.get("a").seq, 46);
  assert.equal(page.client.stream.notifications.get("b").seq, 43);
});

test("a frame of equal seq replaces the item and the unread count", () => {
  const page = livePage({ sync: { prev: 41, seq: 46, unread: 7, items: [notification("a", 46)] } });
  page.last().receive(change(45, 46, [notification("a", 46, { title: "again" })], { unread: 3 }));
  assert.equal(page.client.stream.notifications.get("a").title, "again");
  assert.equal(page.client.unread, 3);
});

test("a job of a smaller version is ignored in every frame", () => {
  const page = livePage({ sync: { jobs: [job(8)] } });
  page.last().receive({ op: "jobs", n: 3, jobs: [job(7, { state: "queued" })] });
  assert.equal(page.client.stream.jobs.get(JOB).state, "running");
});

test("a manual retry makes a finished job active again", () => {
  const page = livePage({ sync: { jobs: [job(8, { state: "failed" })] } });
  page.last().receive({ op: "jobs", n: 3, jobs: [job(9, { state: "queued" })] });
  assert.equal(page.client.stream.jobs.get(JOB).state, "queued");
});

test("a reset drops all items", () => {
  const page = livePage({ sync: { prev: 41, seq: 42, items: [notification("old", 42)], jobs: [job(3)] } });
  page.last().receive(
    syncFrame({
      n: 4,
      epoch: "e2",
      reset: true,
      prev: null,
      seq: 5,
      unread: 1,
      items: [notification("new", 5)],
    }),
  );
  assert.deepEqual([...page.client.stream.notifications.keys()], ["new"]);
  assert.equal(page.client.stream.jobs.size, 0);
  assert.equal(page.client.stream.cursor, 5);
  page.last().end(1006);
  page.clock.advance(3000);
});

test("after a reset the next hello has the new epoch", async () => {
  const page = livePage();
  page.last().receive(syncFrame({ n: 4, epoch: "e2", reset: true, prev: null, seq: 5 }));
  page.last().end(1006);
  await page.clock.advance(3000);
  page.last().open();
  assert.deepEqual(page.last().sent, [{ op: "hello", epoch: "e2", seq: 5 }]);
});

test("a beat above the cursor sends one sync; an equal one sends none", () => {
  const page = livePage();
  page.last().receive({ op: "beat", seq: 41 });
  assert.deepEqual(page.last().sent, []);
  page.last().receive({ op: "beat", seq: 43 });
  page.last().receive({ op: "beat", seq: 43 });
  assert.deepEqual(page.last().sent, [{ op: "sync", seq: 41 }]);
});

test("a beat below the cursor sends a sync: the server may have a new epoch", () => {
  const page = livePage();
  page.last().receive({ op: "beat", seq: 40 });
  assert.deepEqual(page.last().sent, [{ op: "sync", seq: 41 }]);
});

test("requested acks are sent at once for every kind of frame, also for a dropped one", () => {
  const page = livePage();
  page.last().receive({ op: "jobs", n: 16, ack: true, jobs: [] });
  page.last().receive({ op: "jobs", n: 17, jobs: [] });
  page.last().receive(change(50, 51, [], { n: 32, ack: true }));
  assert.deepEqual(
    page.last().sent.filter((frame) => frame.op === "ack"),
    [
      { op: "ack", n: 16 },
      { op: "ack", n: 32 },
    ],
  );
});

test("unknown frames, unknown keys and broken JSON change nothing", () => {
  const page = livePage();
  page.last().receive({ op: "future", n: 3, seq: 99 });
  page.last().receive("{not json");
  page.last().receive("null");
  page
    .last()
    .receive(
      change(41, 42, [notification("a", 42, { color: "red" }), { kind: "future", id: "x" }], { extra: 1 }),
    );
  assert.equal(page.client.stream.cursor, 42);
  assert.equal(page.client.stream.notifications.size, 1);
});

test("each part of a catch-up moves the cursor; only the last part lists the active jobs", () => {
  const page = makePage();
  page.client.start();
  page.last().welcome({ prev: 41, seq: 241, more: true, jobs: undefined, items: [notification("a", 241)] });
  assert.equal(page.changes[0].activeIds, null);
  page.last().receive(syncFrame({ n: 3, prev: 241, seq: 260, jobs: [job(2)] }));
  assert.equal(page.client.stream.cursor, 260);
  assert.deepEqual([...page.changes[1].activeIds], [JOB]);
});

test("items of an HTTP response are added without moving the position", () => {
  const page = livePage();
  page.client.merge([notification("a", 60)]);
  assert.equal(page.client.stream.cursor, 41);
  assert.equal(page.client.unread, 2);
  assert.equal(page.changes[0].op, "jobs");
});

test("signing out drops all data of the user", () => {
  const page = livePage({ sync: { prev: 41, seq: 42, items: [notification("a", 42)] } });
  page
    .last()
    .receive({ op: "bye", code: 4401, reason: "signed_out", detail: "", reconnect: false, after_ms: 0 });
  page.last().end(4401);
  assert.equal(page.client.state, "signed_out");
  assert.equal(page.client.stream.notifications.size, 0);
  assert.equal(page.client.unread, null);
});

test("a page holds the 500 newest notifications and finished jobs, and all active jobs", () => {
  const page = livePage();
  const { stream } = page.client;
  const ids = (held) => [...held.values()].map((item) => item.seq).sort((a, b) => a - b);
  page.client.merge([job(1, { id: "active" })]);
  for (let seq = 42; seq < 642; seq += 1) {
    const done = job(1, { id: `j${seq}`, seq, state: "succeeded" });
    page.last().receive(change(seq - 1, seq, [notification(`n${seq}`, seq), done], { n: seq }));
  }
  assert.equal(stream.notifications.size, 500);
  assert.deepEqual([ids(stream.notifications)[0], ids(stream.notifications).at(-1)], [142, 641]);
  assert.equal(stream.jobs.size, 501);
  assert.deepEqual([ids(stream.jobs)[0], ids(stream.jobs)[1], ids(stream.jobs).at(-1)], [0, 142, 641]);
});
