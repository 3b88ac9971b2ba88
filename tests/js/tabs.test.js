import assert from "node:assert/strict";
import { test } from "node:test";
import { UserStream } from "../../notifications/static/notifications/stream.js";
import { notification, settled, syncFrame } from "./fakes.js";
import { makeBrowser, NAME, twoTabs, UNAUTHORIZED } from "./tabs.js";

const change = (prev, seq, items = []) => ({ op: "change", n: 9, prev, seq, unread: 7, items });

test("all tabs of a browser share one socket", async () => {
  const { leader, follower } = await twoTabs();
  assert.equal(leader.transport.isLeader, true);
  assert.equal(leader.sockets.length, 1);
  assert.equal(follower.transport.isLeader, false);
  assert.equal(follower.sockets.length, 0);
});

test("tabs of different users have their own sockets", async () => {
  const browser = makeBrowser();
  const [first, second] = [browser.open(), browser.open("notifications.v1:u2")];
  await settled();
  assert.deepEqual([first.sockets.length, second.sockets.length], [1, 1]);
});

test("followers apply the frames that the leader receives", async () => {
  const { leader, follower } = await twoTabs();
  leader.sockets[0].receive(change(41, 42, [notification("a", 42)]));
  await settled();
  assert.equal(follower.client.stream.cursor, 42);
  assert.equal(follower.client.unread, 7);
  assert.equal(follower.client.stream.notifications.get("a").title, "Title a");
});

test("a follower has the state of the leader's connection", async () => {
  const { leader, follower } = await twoTabs();
  assert.equal(follower.client.state, "live");
  leader.sockets[0].end(1006);
  await settled();
  assert.equal(follower.client.state, "waiting");
});

test("a new follower catches up over HTTP from the position of its page, once", async () => {
  const { follower } = await twoTabs();
  assert.equal(follower.net.calls.length, 1);
  assert.equal(follower.net.calls[0].url.search, "?background=1&epoch=e1&seq=41");
});

test("a follower that has missed a frame catches up over HTTP, not through the leader's socket", async () => {
  const { leader, follower } = await twoTabs();
  const sent = leader.sockets[0].sent.length;
  leader.client.stream.cursor = 60;
  leader.sockets[0].receive(change(60, 61));
  await settled();
  assert.equal(follower.net.calls.length, 2);
  assert.equal(leader.sockets[0].sent.length, sent);
});

test("only the leader sends acks", async () => {
  const { leader, follower } = await twoTabs();
  leader.sockets[0].receive({ op: "jobs", n: 16, ack: true, jobs: [] });
  await settled();
  assert.equal(leader.sockets[0].ops().filter((op) => op === "ack").length, 1);
  assert.equal(follower.sockets.length, 0);
});

test("when the leader is closed, the next tab connects from its own position", async () => {
  const { leader, follower } = await twoTabs();
  leader.sockets[0].receive(change(41, 44));
  await settled();
  leader.client.stop();
  await settled();
  assert.equal(follower.transport.isLeader, true);
  follower.sockets[0].open();
  assert.deepEqual(follower.sockets[0].sent, [{ op: "hello", epoch: "e1", seq: 44 }]);
});

test("when the leader is killed, the next tab takes over", async () => {
  const { leader, follower, locks } = await twoTabs();
  leader.channel.isFrozen = true;
  await locks.release(NAME);
  assert.equal(follower.transport.isLeader, true);
  assert.equal(follower.sockets.length, 1);
});

test("a frozen leader that holds the lock is replaced, and becomes a follower when it wakes", async () => {
  const { leader, follower, clock } = await twoTabs();
  leader.channel.isFrozen = true;
  await clock.advance(3_000);
  assert.equal(follower.transport.isLeader, false);
  await clock.advance(1_500);
  assert.equal(follower.transport.isLeader, true);
  leader.channel.isFrozen = false;
  await settled();
  assert.equal(leader.transport.isLeader, false);
  assert.equal(leader.sockets[0].closed, true);
});

test("a hidden tab notices a frozen leader when a beat is missing, or at once when it becomes visible", async () => {
  const { leader, follower, browser, clock } = await twoTabs();
  const shown = browser.open();
  follower.isVisible = shown.isVisible = false;
  await clock.advance(2_000); // the time limits are those of hidden tabs from the next message on
  leader.sockets[0].receive({ op: "beat", seq: 41 });
  await settled();
  leader.channel.isFrozen = true;
  await clock.advance(20_000);
  assert.deepEqual([follower.transport.isLeader, shown.transport.isLeader], [false, false]);
  shown.isVisible = true;
  shown.client.checkConnection();
  await clock.advance(3_000);
  assert.equal(shown.transport.isLeader, true);
});

test("a silent leader that answers stays the leader", async () => {
  const { leader, follower, clock } = await twoTabs();
  for (let minute = 0; minute < 5; minute += 1) {
    await clock.advance(50_000);
    leader.sockets.at(-1).receive({ op: "beat", seq: 41 });
  }
  assert.equal(leader.transport.isLeader, true);
  assert.equal(follower.sockets.length, 0);
});

test("a new tab whose leader is frozen takes over after 3 s", async () => {
  const browser = makeBrowser();
  const leader = browser.open();
  await settled();
  leader.channel.isFrozen = true;
  const tab = browser.open();
  await browser.clock.advance(3_000);
  assert.equal(tab.transport.isLeader, true);
});

test("after a sign-out every tab checks its own session, and none stays connected", async () => {
  const { leader, follower, clock } = await twoTabs();
  follower.net.routes["GET /sync/"] = UNAUTHORIZED;
  leader.sockets[0].end(4401);
  await settled();
  await clock.advance(120_000);
  assert.deepEqual([leader.client.state, follower.client.state], ["signed_out", "signed_out"]);
  assert.equal(leader.sockets.length, 1);
  assert.equal(
    follower.sockets.every((socket) => socket.closed),
    true,
  );
});

test("if only the leader's session has ended, as after a change of password, the next tab connects", async () => {
  const { leader, follower } = await twoTabs();
  leader.sockets[0].end(4401);
  await settled();
  assert.equal(leader.client.state, "signed_out");
  assert.equal(follower.transport.isLeader, true);
  follower.sockets[0].welcome();
  assert.equal(follower.client.state, "live");
});

test("if the browser denies locks, each tab has its own connection", async () => {
  const browser = makeBrowser();
  let requests = 0;
  browser.locks.request = async () => {
    requests += 1;
    if (requests === 1) throw new DOMException("denied", "SecurityError");
    return new Promise(() => undefined); // Requesting in a loop would never end.
  };
  const tab = browser.open();
  await settled();
  assert.equal(tab.sockets.length, 1);
});

test("a new tab that is signed in after a sign-out becomes the leader", async () => {
  const { leader, follower, browser } = await twoTabs();
  follower.net.routes["GET /sync/"] = UNAUTHORIZED;
  leader.sockets[0].end(4401);
  await settled();
  const fresh = browser.open();
  await settled();
  assert.equal(fresh.transport.isLeader, true);
});

test("a tab that returns from the back-forward cache becomes a follower", async () => {
  const { leader, follower } = await twoTabs();
  leader.client.stop();
  await settled();
  follower.sockets[0].welcome({ unread: 2 });
  leader.client.start();
  await settled();
  assert.equal(leader.transport.isLeader, false);
  follower.sockets[0].receive(change(41, 50));
  await settled();
  assert.equal(leader.client.stream.cursor, 50);
});

test("a follower that returns with nothing missed is connected", async () => {
  const browser = makeBrowser({
    "GET /sync/": ({ url, headers }) => {
      if (headers.get("If-None-Match") === '"41"') return { status: 304 };
      const prev = Number(url.searchParams.get("seq"));
      return { json: syncFrame({ prev, seq: 41, unread: 2 }), headers: { ETag: '"41"' } };
    },
  });
  const leader = browser.open();
  await settled();
  leader.sockets[0].welcome({ unread: 2 });
  const follower = browser.open();
  const states = [];
  new UserStream(follower.client).on("state", ({ connected }) => states.push(connected));
  await settled();
  follower.client.stop();
  await settled();
  follower.client.start();
  await settled();
  leader.sockets[0].receive({ op: "beat", seq: 41 });
  await settled();
  assert.deepEqual([follower.client.state, states], ["live", [true, false, true]]);
});

test("of three tabs each leads in turn, never two at the same time", async () => {
  const browser = makeBrowser();
  const tabs = [browser.open(), browser.open(), browser.open()];
  await settled();
  for (const tab of tabs) {
    assert.equal(tabs.filter((other) => other.transport.isLeader).length, 1);
    assert.equal(tab.transport.isLeader, true);
    tab.client.stop();
    await settled();
  }
});

test("after its own change a follower reads over HTTP only while no frames are pushed", async () => {
  const { leader, follower } = await twoTabs();
  follower.client.refresh();
  await settled();
  assert.equal(follower.net.calls.length, 1);
  leader.sockets[0].end(1006);
  await settled();
  follower.client.refresh();
  await settled();
  assert.equal(follower.net.calls.length, 2);
});

test("a second check during the first one leaves no polling behind", async () => {
  const browser = makeBrowser();
  const tab = browser.open();
  await settled();
  tab.sockets[0].end(4401);
  await settled();
  let answer = () => {};
  tab.net.routes["GET /sync/"] = () => new Promise((resolve) => (answer = resolve));
  void tab.client.checkConnection();
  await settled();
  void tab.client.checkConnection();
  tab.net.routes["GET /sync/"] = { json: syncFrame({ prev: null, seq: 41, reset: true, unread: 2 }) };
  answer(tab.net.routes["GET /sync/"]);
  await settled();
  tab.sockets.at(-1).welcome({ prev: 41, seq: 41, unread: 2 });
  await settled();
  const requests = tab.net.count("GET /sync/");
  await browser.clock.advance(20_000);
  assert.equal(tab.client.state, "live");
  assert.equal(tab.net.count("GET /sync/"), requests);
});
