import assert from "node:assert/strict";
import { test } from "node:test";
import { readStored, store } from "../../notifications/static/notifications/connect.js";
import { isUnread } from "../../notifications/static/notifications/dom.js";
import { ToastQueue } from "../../notifications/static/notifications/toasts.js";
import { FakeClock, FakeLocks, notification } from "./fakes.js";

const MINUTES = 60_000;

/** Return what reads and writes a storage, in copies as localStorage does. */
const storage = (stored) => ({
  readStored: (key) => JSON.parse(stored.get(key) ?? "null"),
  store: (key, value) => stored.set(key, JSON.stringify(value)),
});

/** Build a browser whose tabs share storage and locks. */
function makeBrowser() {
  const clock = new FakeClock();
  const locks = new FakeLocks();
  const stored = new Map();
  const open = (options = {}) => {
    const tab = { visible: true, hasUnseen: true, shownByPage: new Set(), shown: [], cursor: 10 };
    tab.queue = new ToastQueue({
      name: "u1",
      pendingToasts: new Map(),
      ...storage(stored),
      locks,
      clock,
      isVisible: () => tab.visible,
      hasUnseen: () => tab.hasUnseen,
      isUnread,
      isShown: ({ id }) => tab.shownByPage.has(id),
      getPosition: () => ({ epoch: "e1", cursor: tab.cursor }),
      prepare: async () => undefined,
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
  const position = () => JSON.parse(stored.get("u1:position")).seq;
  return { clock, open, aged, position };
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

test("what is due while its script is loading is shown afterwards, and not claimed before", async () => {
  const { clock, open, aged, position } = makeBrowser();
  let loaded;
  const tab = open({ prepare: () => new Promise((resolve) => (loaded = resolve)) });
  tab.queue.add(liveChange(aged("1", 0)));
  await clock.advance(200);
  tab.queue.add(liveChange(aged("2", 0)));
  await clock.advance(200);
  assert.deepEqual(tab.shown, []);
  assert.equal(position(), 0); // The next page would show both.
  loaded();
  await clock.advance(200);
  assert.deepEqual(tab.shown, [["1", "2"]]);
});

test("what is due while its script cannot be loaded is shown with the next change", async () => {
  const { clock, open, aged } = makeBrowser();
  let isAway = true;
  const tab = open({
    prepare: async () => {
      if (isAway) throw new TypeError("Failed to fetch");
    },
  });
  tab.queue.add(liveChange(aged("1", 0)));
  await clock.advance(200);
  assert.deepEqual(tab.shown, []);
  isAway = false;
  tab.queue.add(liveChange());
  await clock.advance(200);
  assert.deepEqual(tab.shown, [["1"]]);
});

test("what is due while its element is replaced is shown by the new one", async () => {
  const { clock, open, aged } = makeBrowser();
  const pendingToasts = new Map();
  let loaded;
  const tab = open({ pendingToasts, prepare: () => new Promise((resolve) => (loaded = resolve)) });
  tab.queue.add(liveChange(aged("1", 500)));
  await clock.advance(200);
  tab.visible = false;
  const next = open({ pendingToasts });
  next.queue.flush();
  loaded();
  await clock.advance(200);
  assert.deepEqual([tab.shown, next.shown], [[], [["1"]]]);
});

test("what is due while the user signs out is neither shown nor claimed", async () => {
  const { clock, open, aged } = makeBrowser();
  const tab = open({
    locks: {
      request: async (_name, _options, hold) => {
        tab.hasUnseen = false;
        void hold({});
      },
    },
  });
  tab.queue.add(liveChange(aged("1", 0)));
  await clock.advance(200);
  assert.deepEqual(tab.shown, []);
  const other = open();
  other.queue.add(liveChange(aged("1", 0)));
  await clock.advance(200);
  assert.deepEqual(other.shown, [["1"]]);
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
  const tabs = [open(storage(new Map())), open(storage(new Map()))];
  tabs[0].queue.add(liveChange(aged("1", 0), aged("2", 0)));
  await clock.advance(1_000);
  tabs[1].queue.add(liveChange(aged("1", 0), aged("2", 0), aged("3", 0)));
  await clock.advance(1_000);
  assert.deepEqual([tabs[0].shown, tabs[1].shown], [[["1", "2"]], [["3"]]]);
});

test("the position that the browser remembers is the one up to which it has shown everything", async () => {
  const { clock, open, aged, position } = makeBrowser();
  const tab = open();
  tab.queue.add(liveChange(aged("8", 0), aged("9", 0), aged("10", 500)));
  assert.equal(position(), 7);
  tab.queue.savePosition(); // the page is left within the 0.1 s in which toasts are collected
  assert.equal(position(), 7);
  const next = open({ isVisible: () => true });
  next.queue.add(missedChange(aged("8", 0), aged("9", 0)));
  await clock.advance(50);
  assert.equal(position(), 7);
  await clock.advance(200);
  assert.deepEqual([...tab.shown, ...next.shown].flat().sort(), ["10", "8", "9"]);
  assert.equal(position(), 10);
});

test("a notification is claimed only as it is shown", async () => {
  const { clock, open, aged } = makeBrowser();
  const leaving = open({ locks: { request: () => new Promise(() => undefined) } });
  leaving.queue.add(liveChange(aged("1", 0)));
  await clock.advance(200);
  const next = open();
  next.queue.add(missedChange(aged("1", 0)));
  await clock.advance(200);
  assert.deepEqual([leaving.shown, next.shown], [[], [["1"]]]);
});

test("what a hidden tab has not shown within five minutes holds the position no longer", async () => {
  const { clock, open, aged, position } = makeBrowser();
  const tab = open();
  tab.visible = false;
  tab.queue.add(missedChange(aged("8", 4)));
  assert.equal(position(), 7);
  await clock.advance(2 * MINUTES);
  tab.queue.add(missedChange(aged("10", 0)));
  assert.equal(position(), 9);
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
  const tab = open({ readStored: () => null, store: () => undefined, locks: undefined });
  for (let time = 0; time < 2; time += 1) {
    tab.queue.add(liveChange(aged("1", 0)));
    await clock.advance(200);
  }
  assert.deepEqual(tab.shown, [["1"]]);
});

test("if storage is full, a tab shows each notification once", async () => {
  const { clock, open, aged } = makeBrowser();
  const tab = open({ readStored: () => ({ 7: clock.now() }), store: () => undefined });
  for (let time = 0; time < 2; time += 1) {
    tab.queue.add(liveChange(aged("1", 0), aged("7", 0)));
    await clock.advance(10_000);
  }
  assert.deepEqual(tab.shown, [["1"]]);
});

test("what the page itself shows is no toast there, and may be one in another window", async () => {
  const { clock, open, aged } = makeBrowser();
  const [page, other] = [open(), open()];
  page.shownByPage.add("1");
  for (const tab of [page, other]) tab.queue.add(liveChange(aged("1", 0)));
  await clock.advance(200);
  assert.deepEqual([page.shown, other.shown], [[], [["1"]]]);
});

test("what the page itself shows is no toast in another window either, once it is read", async () => {
  const { clock, open, aged } = makeBrowser();
  const [page, other] = [open(), open()];
  page.shownByPage.add("1");
  other.visible = false;
  for (const tab of [page, other]) {
    tab.queue.add(liveChange(aged("1", 0)));
    tab.queue.add(liveChange(aged("1", 0, { seq: 9, read_at: "2026-01-01T00:00:00Z" })));
  }
  other.visible = true;
  other.queue.flush();
  await clock.advance(200);
  assert.deepEqual([page.shown, other.shown], [[], []]);
});

test("storage that is blocked, full or damaged is read as empty, and not written", () => {
  const blocked = () => {
    throw new DOMException("blocked", "SecurityError");
  };
  for (const getItem of [blocked, () => "{", () => null]) {
    globalThis.localStorage = { getItem, setItem: blocked };
    try {
      store("key", { 1: 2 });
      assert.equal(readStored("key"), null);
    } finally {
      delete globalThis.localStorage;
    }
  }
});
