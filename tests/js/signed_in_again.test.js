import assert from "node:assert/strict";
import { test } from "node:test";
import { settled, syncFrame } from "./fakes.js";
import { livePage } from "./page.js";
import { twoTabs, UNAUTHORIZED } from "./tabs.js";

const SYNC = "GET /n/api/sync/";
const SIGNED_IN = { json: syncFrame({ prev: null, seq: 50, reset: true, unread: 1 }) };

function signedOutPage(answer) {
  const page = livePage({ routes: { [SYNC]: answer } });
  page.last().end(4401);
  assert.equal(page.client.state, "signed_out");
  return page;
}

test("after 4401 the client sends nothing by itself", async () => {
  const page = signedOutPage(SIGNED_IN);
  await page.clock.advance(600_000);
  assert.equal(page.net.calls.length, 0);
  assert.equal(page.sockets.length, 1);
});

test("on focus the client checks the session once, and starts from a snapshot if the user is signed in again", async () => {
  const page = signedOutPage(SIGNED_IN);
  page.states.length = 0;
  page.client.checkConnection(); // focus and visibilitychange come together
  page.client.checkConnection();
  await settled();
  assert.equal(page.net.count(SYNC), 1);
  assert.equal(page.net.calls[0].url.search, "?background=1");
  assert.equal(page.sockets.length, 2);
  page.last().welcome({ prev: 50, seq: 50, unread: 1 });
  assert.deepEqual(page.last().sent[0], { op: "hello", epoch: "e1", seq: 50 }); // the position of the snapshot
  assert.deepEqual(page.states, ["connecting", "live"]);
  assert.equal(page.client.unread, 1);
});

const UNANSWERED = {
  "the server responds with 503": { status: 503 },
  "the network fails": new TypeError("failed to fetch"),
};

test("if no user or another user is signed in, the client stays signed out until the next focus", async () => {
  const page = signedOutPage(UNAUTHORIZED);
  for (let focus = 1; focus <= 2; focus += 1) {
    page.client.checkConnection();
    await settled();
    await page.clock.advance(60_000);
    assert.equal(page.net.count(SYNC), focus);
  }
  assert.equal(page.client.state, "signed_out");
  assert.equal(page.sockets.length, 1);
});

for (const [condition, answer] of Object.entries(UNANSWERED)) {
  test(`if ${condition} on focus, a signed-out client asks again until it knows`, async () => {
    const page = signedOutPage(answer);
    page.states.length = 0;
    page.client.checkConnection();
    await page.clock.advance(31_000);
    assert.equal(page.net.count(SYNC), 3);
    assert.deepEqual(page.states, []);
    page.net.routes[SYNC] = SIGNED_IN;
    await page.clock.advance(15_000);
    assert.deepEqual(page.states, ["connecting"]);
    assert.equal(page.sockets.length, 2);
    await page.clock.advance(1_000);
    assert.equal(page.net.count(SYNC), 4);
  });

  test(`if ${condition}, a page whose user has to be confirmed waits, and asks again until it knows`, async () => {
    const page = livePage({ routes: { [SYNC]: answer } });
    page.states.length = 0;
    await page.client.confirmUser();
    assert.equal(page.sockets[0].closed, true);
    assert.deepEqual(page.states, ["connecting", "waiting"]);
    assert.equal(page.client.unread, 2);
    page.client.checkConnection(); // on focus it is asked now
    await settled();
    assert.equal(page.net.count(SYNC), 2);
    await page.clock.advance(16_000);
    assert.equal(page.net.count(SYNC), 3);
    assert.equal(page.sockets.length, 1);
    page.net.routes[SYNC] = UNAUTHORIZED;
    await page.clock.advance(15_000);
    assert.equal(page.client.state, "signed_out");
    assert.equal(page.client.unread, null);
    await page.clock.advance(600_000);
    assert.equal(page.net.count(SYNC), 4);
  });
}

test("a page that is stopped while the server cannot be asked asks no more, and goes on asking when it returns", async () => {
  const page = livePage({ routes: { [SYNC]: { status: 503 } } });
  await page.client.confirmUser();
  page.client.stop();
  await page.clock.advance(60_000);
  assert.deepEqual([page.net.count(SYNC), page.client.state], [1, "stopped"]);
  page.net.routes[SYNC] = SIGNED_IN;
  page.client.start();
  await settled();
  assert.equal(page.sockets.length, 2);
});

test("a read that was sent before does not confirm the user", async () => {
  const answers = [];
  const page = livePage({ routes: { [SYNC]: () => new Promise((resolve) => answers.push(resolve)) } });
  page.client.checkConnection(); // on focus, with the cookie of the earlier session
  void page.client.confirmUser();
  answers[0]({ json: syncFrame({ seq: 41 }) });
  await settled();
  assert.equal(page.sockets.length, 1);
  answers[1](UNAUTHORIZED);
  await settled();
  assert.equal(page.client.state, "signed_out");
});

test("a page without the mark of a user reads nothing on focus: the answer could be another user's", async () => {
  const page = livePage({ hasUser: false, routes: { [SYNC]: SIGNED_IN } });
  page.client.checkConnection();
  await settled();
  assert.deepEqual(page.last().sent, [{ op: "ping" }]);
  assert.equal(page.net.calls.length, 0);
});

test("a client that is signed out again at once can start a second time", async () => {
  const page = signedOutPage(SIGNED_IN);
  page.client.checkConnection();
  await settled();
  page.last().end(4401);
  assert.equal(page.client.state, "signed_out");
  await page.clock.advance(600_000);
  assert.equal(page.sockets.length, 2);
  page.client.checkConnection();
  await settled();
  assert.equal(page.sockets.length, 3);
});

test("a page that was hidden during the check is not started", async () => {
  const page = signedOutPage(SIGNED_IN);
  page.client.checkConnection();
  page.client.stop();
  await settled();
  assert.equal(page.client.state, "stopped");
  assert.equal(page.sockets.length, 1);
});

test("after another final code the session is not checked", async () => {
  const page = livePage({ routes: { [SYNC]: SIGNED_IN } });
  page.last().end(4400);
  page.client.checkConnection();
  await settled();
  assert.deepEqual([page.client.state, page.net.calls.length], ["refused", 0]);
});

async function signedOutTabs() {
  const { leader, follower, browser } = await twoTabs();
  const route = follower.net.routes["GET /sync/"];
  follower.net.routes["GET /sync/"] = UNAUTHORIZED;
  leader.sockets[0].end(4401);
  await settled();
  assert.deepEqual([leader.client.state, follower.client.state], ["signed_out", "signed_out"]);
  return { leader, follower, browser, signIn: () => (follower.net.routes["GET /sync/"] = route) };
}

test("when another tab of the user is connected, the signed-out tabs follow it", async () => {
  const { leader, follower, browser, signIn } = await signedOutTabs();
  signIn();
  const fresh = browser.open();
  await settled();
  assert.equal(leader.client.state, "signed_out");
  fresh.sockets[0].welcome({ unread: 2 });
  await settled();
  for (const tab of [leader, follower]) {
    assert.equal(tab.client.state, "live");
    assert.equal(tab.transport.isLeader, false);
  }
  fresh.sockets[0].receive({ op: "change", n: 9, prev: 41, seq: 42, unread: 7, items: [] });
  await settled();
  assert.deepEqual([leader.client.unread, follower.client.unread], [7, 7]);
});

test("a connected tab of another user has no effect", async () => {
  const { leader, browser, signIn } = await signedOutTabs();
  signIn();
  const calls = leader.net.calls.length;
  const other = browser.open("notifications.v1:u2");
  await settled();
  other.sockets[0].welcome({ unread: 0 });
  await settled();
  assert.equal(leader.client.state, "signed_out");
  assert.equal(leader.net.calls.length, calls);
});

test("on focus one tab becomes the leader, and the other one follows it", async () => {
  const { leader, follower, signIn } = await signedOutTabs();
  signIn();
  leader.client.checkConnection();
  await settled();
  assert.equal(leader.transport.isLeader, true);
  leader.sockets.at(-1).welcome({ prev: null, seq: 50, reset: true, unread: 3 });
  await settled();
  assert.deepEqual([leader.client.state, follower.client.state], ["live", "live"]);
  assert.equal(follower.transport.isLeader, false);
});

test("while the server confirms the user nothing is received, and then the page goes on where it was", async () => {
  let answer = (_response) => undefined;
  const page = livePage({ routes: { [SYNC]: () => new Promise((resolve) => (answer = resolve)) } });
  page.states.length = 0;
  const socket = page.last();
  void page.client.confirmUser();
  await settled();
  assert.equal(socket.closed, true);
  socket.receive({ op: "change", n: 9, prev: 41, seq: 42, unread: 7, items: [] });
  assert.equal(page.client.unread, 2);
  answer({ status: 304 });
  await settled();
  page.last().open();
  assert.deepEqual(page.last().sent[0], { op: "hello", epoch: "e1", seq: 41 });
  page.last().receive({ op: "welcome", n: 1, subscriber: "s1", protocol: 1, beat: 25 });
  assert.deepEqual(page.states, ["connecting", "live"]);
});

test("if another user is signed in, the page is signed out", async () => {
  const page = livePage({ routes: { [SYNC]: UNAUTHORIZED } });
  await page.client.confirmUser();
  assert.equal(page.client.state, "signed_out");
  assert.equal(page.client.unread, null);
  assert.equal(page.sockets.length, 1);
});

test("a page that leaves and returns during the check is started by its result", async () => {
  let answer = (_response) => undefined;
  const page = livePage({ routes: { [SYNC]: () => new Promise((resolve) => (answer = resolve)) } });
  void page.client.confirmUser();
  page.client.stop();
  page.client.start();
  await settled();
  assert.equal(page.sockets.length, 1);
  answer(SIGNED_IN);
  await settled();
  assert.equal(page.sockets.length, 2);
});

test("on focus the server confirms the user, although the socket of the earlier session is open", async () => {
  const page = livePage({ routes: { [SYNC]: UNAUTHORIZED } });
  page.client.checkConnection();
  await settled();
  assert.equal(page.client.state, "signed_out");
  const { leader, follower } = await twoTabs();
  follower.net.routes["GET /sync/"] = UNAUTHORIZED;
  follower.client.checkConnection();
  await settled();
  assert.deepEqual([leader.client.state, follower.client.state], ["live", "signed_out"]);
});
