import assert from "node:assert/strict";
import { test } from "node:test";
import { ToastQueue } from "../../notifications/static/notifications/toasts.js";
import { FakeClock, FakeLocks, notification } from "./fakes.js";

const MINUTES = 60_000;

/** Build a browser whose tabs share storage and locks. */
function makeBrowser() {
  const clock = new FakeClock();
  const locks = new FakeLocks();
  const stored = new Map();
  const storage = {
    getItem: (key) => stored.get(key) ?? null,
    setItem: (key, value) => stored.set(key, value),
  };
  const open = (options = {}) => {
    const tab = { visible: true, hasUnseen: true, shown: [] };
    tab.queue = new ToastQueue({
      name: "u1",
      getStorage: () => storage,
      locks,
      clock,
      isVisible: () => tab.visible,
      hasUnseen: () => tab.hasUnseen,
      show: (items) => tab.shown.push(items.map((item) => item.id)),
      ...options,
    });
    return tab;
  };
  const aged = (id, minutes, values = {}) =>
    notification(id, Number(id), {
      created_at: new Date(clock.now() - minutes * MINUTES).toISOString(),
      ...values,
    });
  return { clock, open, aged };
}

const liveChange = (...notifications) => ({
  op: "change",
  reset: false,
  notifications,
  jobs: [],
  activeIds: null,
});
const missedChange = (...notifications) => ({ ...liveChange(...notifications), op: "sync" });

test("a live notification is shown, however old its created_at is", async () => {
  const { clock, open, aged } = makeBrowser();
  const tab = open();
  tab.queue.add(liveChange(aged("1", 500)));
  await clock.advance(200);
  assert.deepEqual(tab.shown, [["1"]]);
});

test("an old notification that is marked as unread is not shown", async () => {
  const { clock, open, aged } = makeBrowser();
  const tab = open();
  tab.queue.add(liveChange(aged("1", 500, { seq: 9 })));
  await clock.advance(200);
  assert.deepEqual(tab.shown, []);
});

test("a missed notification is shown only if it is younger than five minutes", async () => {
  const { clock, open, aged } = makeBrowser();
  const tab = open();
  tab.queue.add(missedChange(aged("1", 6), aged("2", 4)));
  await clock.advance(200);
  assert.deepEqual(tab.shown, [["2"]]);
});

test("a read or archived notification is not shown, even if it is marked just before", async () => {
  const { clock, open, aged } = makeBrowser();
  const tab = open();
  tab.queue.add(
    liveChange(
      aged("1", 0, { read_at: "2026-01-01T00:00:00Z" }),
      aged("2", 0, { archived_at: "2026-01-01T00:00:00Z" }),
      aged("3", 0),
    ),
  );
  tab.queue.add(liveChange(aged("3", 0, { read_at: "2026-01-01T00:00:00Z" })));
  await clock.advance(200);
  assert.deepEqual(tab.shown, []);
});

test("frames that arrive together are shown together, ordered by raised", async () => {
  const { clock, open, aged } = makeBrowser();
  const tab = open();
  for (const id of ["3", "1", "2"]) tab.queue.add(liveChange(aged(id, 0)));
  await clock.advance(200);
  assert.deepEqual(tab.shown, [["1", "2", "3"]]);
});

test("a notification is shown once, whatever changes in it", async () => {
  const { clock, open, aged } = makeBrowser();
  const tab = open();
  tab.queue.add(liveChange(aged("1", 0)));
  await clock.advance(200);
  tab.queue.add(liveChange(aged("1", 0, { seq: 9, title: "changed" })));
  await clock.advance(200);
  assert.deepEqual(tab.shown, [["1"]]);
});

test("a notification is shown once per browser, although two windows are visible", async () => {
  const { clock, open, aged } = makeBrowser();
  const tabs = [open(), open()];
  for (const tab of tabs) tab.queue.add(liveChange(aged("1", 0)));
  await clock.advance(200);
  assert.equal(tabs.flatMap((tab) => tab.shown).length, 1);
});

test("a notification is shown once per browser, although a write to storage reaches the other tab late", async () => {
  const { clock, open, aged } = makeBrowser();
  const separateStorage = () => {
    const stored = new Map();
    return () => ({
      getItem: (key) => stored.get(key) ?? null,
      setItem: (key, value) => stored.set(key, value),
    });
  };
  const tabs = [open({ getStorage: separateStorage() }), open({ getStorage: separateStorage() })];
  tabs[0].queue.add(liveChange(aged("1", 0), aged("2", 0)));
  await clock.advance(1_000);
  tabs[1].queue.add(liveChange(aged("1", 0), aged("2", 0), aged("3", 0)));
  await clock.advance(1_000);
  assert.deepEqual([tabs[0].shown, tabs[1].shown], [[["1", "2"]], [["3"]]]);
});

test("a hidden tab shows nothing until it is visible, and then only recent notifications", async () => {
  const { clock, open, aged } = makeBrowser();
  const tab = open();
  tab.visible = false;
  tab.queue.add(liveChange(aged("1", 0)));
  await clock.advance(2 * MINUTES);
  tab.queue.add(liveChange(aged("2", 0)));
  await clock.advance(4 * MINUTES);
  assert.deepEqual(tab.shown, []);
  tab.visible = true;
  tab.queue.flush();
  await clock.advance(200);
  assert.deepEqual(tab.shown, [["2"]]);
});

test("a hidden tab leaves notifications to the visible one", async () => {
  const { clock, open, aged } = makeBrowser();
  const [hidden, visible] = [open(), open()];
  hidden.visible = false;
  for (const tab of [hidden, visible]) tab.queue.add(liveChange(aged("1", 0)));
  await clock.advance(200);
  hidden.visible = true;
  hidden.queue.flush();
  await clock.advance(200);
  assert.deepEqual([hidden.shown, visible.shown], [[], [["1"]]]);
});

test("what a list has read over HTTP is no toast, although its frame arrives later", async () => {
  const { clock, open, aged } = makeBrowser();
  const [tab, other] = [open(), open()];
  tab.queue.add({ ...liveChange(aged("1", 0), aged("2", 0)), op: "jobs" });
  await clock.advance(200);
  for (const each of [tab, other]) each.queue.add(liveChange(aged("2", 0), aged("3", 0)));
  await clock.advance(200);
  assert.deepEqual([...tab.shown, ...other.shown], [["3"]]);
});

test("a toast that waits is dropped when a list shows its notification", async () => {
  const { clock, open, aged } = makeBrowser();
  const tab = open();
  tab.queue.add(liveChange(aged("1", 0)));
  tab.queue.add({ ...liveChange(aged("1", 0)), op: "jobs" });
  await clock.advance(200);
  assert.deepEqual(tab.shown, []);
});

test("what was seen on another device meanwhile is not shown", async () => {
  const { clock, open, aged } = makeBrowser();
  const tab = open();
  tab.visible = false;
  tab.queue.add(liveChange(aged("1", 0)));
  tab.hasUnseen = false;
  tab.visible = true;
  tab.queue.flush();
  await clock.advance(200);
  assert.deepEqual(tab.shown, []);
  tab.hasUnseen = true;
  tab.queue.add(liveChange(aged("2", 0)));
  await clock.advance(200);
  assert.deepEqual(tab.shown, [["2"]]);
});

test("if storage is blocked, a tab shows each notification once", async () => {
  const { clock, open, aged } = makeBrowser();
  const blocked = () => {
    throw new DOMException("blocked", "SecurityError");
  };
  const tab = open({ getStorage: blocked, locks: undefined });
  for (let time = 0; time < 2; time += 1) {
    tab.queue.add(liveChange(aged("1", 0)));
    await clock.advance(200);
  }
  assert.deepEqual(tab.shown, [["1"]]);
});

test("if storage is full, a tab shows each notification once", async () => {
  const { clock, open, aged } = makeBrowser();
  const full = {
    getItem: () => JSON.stringify({ 7: clock.now() }),
    setItem: () => {
      throw new DOMException("full", "QuotaExceededError");
    },
  };
  const tab = open({ getStorage: () => full });
  for (let time = 0; time < 2; time += 1) {
    tab.queue.add(liveChange(aged("1", 0), aged("7", 0)));
    await clock.advance(10_000);
  }
  assert.deepEqual(tab.shown, [["1"]]);
});
