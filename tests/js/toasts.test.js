import assert from "node:assert/strict";
import { test } from "node:test";
import { Announcer } from "../../notifications/static/notifications/toasts.js";
import { FakeClock, FakeLocks, notification } from "./fakes.js";

const MINUTES = 60_000;

/** Tabs of one browser, which share storage and locks. */
function makeBrowser() {
  const clock = new FakeClock();
  const locks = new FakeLocks();
  const kept = new Map();
  const storage = { getItem: (key) => kept.get(key) ?? null, setItem: (key, value) => kept.set(key, value) };
  const open = (options = {}) => {
    const tab = { visible: true, shown: [] };
    tab.announcer = new Announcer({
      name: "u1",
      storage: () => storage,
      locks,
      clock,
      visible: () => tab.visible,
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

const live = (...notifications) => ({ op: "change", reset: false, notifications, jobs: [], listed: null });
const caughtUp = (...notifications) => ({ ...live(...notifications), op: "sync" });

test("what comes live is shown, however old its clock says it is", async () => {
  const { clock, open, aged } = makeBrowser();
  const tab = open();
  tab.announcer.offer(live(aged("1", 500)));
  await clock.advance(200);
  assert.deepEqual(tab.shown, [["1"]]);
});

test("what is old and moves in the stream, marked as unread, is no news", async () => {
  const { clock, open, aged } = makeBrowser();
  const tab = open();
  tab.announcer.offer(live(aged("1", 500, { seq: 9 })));
  await clock.advance(200);
  assert.deepEqual(tab.shown, []);
});

test("what was missed is shown only if younger than five minutes", async () => {
  const { clock, open, aged } = makeBrowser();
  const tab = open();
  tab.announcer.offer(caughtUp(aged("1", 6), aged("2", 4)));
  await clock.advance(200);
  assert.deepEqual(tab.shown, [["2"]]);
});

test("what is read or archived is not shown, also when that comes before it was shown", async () => {
  const { clock, open, aged } = makeBrowser();
  const tab = open();
  tab.announcer.offer(
    live(
      aged("1", 0, { read_at: "2026-01-01T00:00:00Z" }),
      aged("2", 0, { archived_at: "2026-01-01T00:00:00Z" }),
      aged("3", 0),
    ),
  );
  tab.announcer.offer(live(aged("3", 0, { read_at: "2026-01-01T00:00:00Z" })));
  await clock.advance(200);
  assert.deepEqual(tab.shown, []);
});

test("frames that come together are told together, in the order they were raised", async () => {
  const { clock, open, aged } = makeBrowser();
  const tab = open();
  for (const id of ["3", "1", "2"]) tab.announcer.offer(live(aged(id, 0)));
  await clock.advance(200);
  assert.deepEqual(tab.shown, [["1", "2", "3"]]);
});

test("once per notification, whatever changes in it", async () => {
  const { clock, open, aged } = makeBrowser();
  const tab = open();
  tab.announcer.offer(live(aged("1", 0)));
  await clock.advance(200);
  tab.announcer.offer(live(aged("1", 0, { seq: 9, title: "changed" })));
  await clock.advance(200);
  assert.deepEqual(tab.shown, [["1"]]);
});

test("once per browser, though two windows are seen at the same time", async () => {
  const { clock, open, aged } = makeBrowser();
  const tabs = [open(), open()];
  for (const tab of tabs) tab.announcer.offer(live(aged("1", 0)));
  await clock.advance(200);
  assert.equal(tabs.flatMap((tab) => tab.shown).length, 1);
});

test("once per browser, though what one tab stores reaches another one late", async () => {
  const { clock, open, aged } = makeBrowser();
  const apart = () => {
    const kept = new Map();
    return () => ({ getItem: (key) => kept.get(key) ?? null, setItem: (key, value) => kept.set(key, value) });
  };
  const tabs = [open({ storage: apart() }), open({ storage: apart() })];
  tabs[0].announcer.offer(live(aged("1", 0), aged("2", 0)));
  await clock.advance(1_000);
  tabs[1].announcer.offer(live(aged("1", 0), aged("2", 0), aged("3", 0)));
  await clock.advance(1_000);
  assert.deepEqual([tabs[0].shown, tabs[1].shown], [[["1", "2"]], [["3"]]]);
});

test("a hidden tab shows nothing, and what is still young when it is seen", async () => {
  const { clock, open, aged } = makeBrowser();
  const tab = open();
  tab.visible = false;
  tab.announcer.offer(live(aged("1", 0)));
  await clock.advance(2 * MINUTES);
  tab.announcer.offer(live(aged("2", 0)));
  await clock.advance(4 * MINUTES);
  assert.deepEqual(tab.shown, []);
  tab.visible = true;
  tab.announcer.flush();
  await clock.advance(200);
  assert.deepEqual(tab.shown, [["2"]]);
});

test("a hidden tab leaves it to the one that is seen", async () => {
  const { clock, open, aged } = makeBrowser();
  const [hidden, seen] = [open(), open()];
  hidden.visible = false;
  for (const tab of [hidden, seen]) tab.announcer.offer(live(aged("1", 0)));
  await clock.advance(200);
  hidden.visible = true;
  hidden.announcer.flush();
  await clock.advance(200);
  assert.deepEqual([hidden.shown, seen.shown], [[], [["1"]]]);
});

test("where nothing can be stored, a tab still tells each thing once", async () => {
  const { clock, open, aged } = makeBrowser();
  const blocked = () => {
    throw new DOMException("blocked", "SecurityError");
  };
  const tab = open({ storage: blocked, locks: undefined });
  for (let time = 0; time < 2; time += 1) {
    tab.announcer.offer(live(aged("1", 0)));
    await clock.advance(200);
  }
  assert.deepEqual(tab.shown, [["1"]]);
});

test("where the storage is full, a tab still tells each thing once", async () => {
  const { clock, open, aged } = makeBrowser();
  const full = {
    getItem: () => JSON.stringify({ 7: clock.now() }),
    setItem: () => {
      throw new DOMException("full", "QuotaExceededError");
    },
  };
  const tab = open({ storage: () => full });
  for (let time = 0; time < 2; time += 1) {
    tab.announcer.offer(live(aged("1", 0), aged("7", 0)));
    await clock.advance(10_000);
  }
  assert.deepEqual(tab.shown, [["1"]]);
});
