import assert from "node:assert/strict";
import { test } from "node:test";
import { settled, syncFrame } from "./fakes.js";
import { livePage } from "./page.js";
import { NOBODY, makeBrowser, twoTabs } from "./tabs.js";

const SYNC = "GET /n/api/sync/";
const SIGNED_IN = { json: syncFrame({ prev: null, seq: 50, reset: true, unread: 1 }) };

function signedOutPage(answer) {
  const page = livePage({ routes: { [SYNC]: answer } });
  page.last().end(4401);
  assert.equal(page.client.state, "signed_out");
  return page;
}

test("4401 is final for the socket: nothing is asked by itself", async () => {
  const page = signedOutPage(SIGNED_IN);
  await page.clock.advance(600_000);
  assert.equal(page.net.calls.length, 0);
  assert.equal(page.sockets.length, 1);
});

test("on focus the page asks once, and starts anew where its user is signed in again", async () => {
  const page = signedOutPage(SIGNED_IN);
  page.states.length = 0;
  page.client.nudge(); // focus and visibilitychange come together
  page.client.nudge();
  await settled();
  assert.equal(page.net.asked(SYNC), 1);
  assert.equal(page.net.calls[0].url.search, "");
  assert.equal(page.sockets.length, 2);
  page.last().welcome({ prev: null, seq: 50, reset: true, unread: 1 });
  assert.deepEqual(page.last().sent[0], { op: "hello", epoch: null, seq: null });
  assert.deepEqual(page.states, ["connecting", "live"]);
  assert.equal(page.client.unread, 1);
});

for (const [what, answer] of Object.entries({
  "nobody, or another user, is signed in": NOBODY,
  "the server is away": { status: 503 },
  "the network is away": new TypeError("failed to fetch"),
})) {
  test(`where ${what}, it stays signed out, and asks again at the next focus`, async () => {
    const page = signedOutPage(answer);
    for (let focus = 1; focus <= 2; focus += 1) {
      page.client.nudge();
      await settled();
      await page.clock.advance(60_000);
      assert.equal(page.net.asked(SYNC), focus);
    }
    assert.equal(page.client.state, "signed_out");
    assert.equal(page.sockets.length, 1);
  });
}

test("signed out again at once, it is as before", async () => {
  const page = signedOutPage(SIGNED_IN);
  page.client.nudge();
  await settled();
  page.last().end(4401);
  assert.equal(page.client.state, "signed_out");
  await page.clock.advance(600_000);
  assert.equal(page.sockets.length, 2);
  page.client.nudge();
  await settled();
  assert.equal(page.sockets.length, 3);
});

test("a page that was hidden while it asked is not started", async () => {
  const page = signedOutPage(SIGNED_IN);
  page.client.nudge();
  page.client.stop();
  await settled();
  assert.equal(page.client.state, "stopped");
  assert.equal(page.sockets.length, 1);
});

test("after another final code nothing is asked", async () => {
  const page = livePage({ routes: { [SYNC]: SIGNED_IN } });
  page.last().end(4400);
  page.client.nudge();
  await settled();
  assert.deepEqual([page.client.state, page.net.calls.length], ["refused", 0]);
});

async function signedOutTabs() {
  const { leader, follower, browser } = await twoTabs();
  const route = follower.net.routes["GET /sync/"];
  follower.net.routes["GET /sync/"] = NOBODY;
  leader.sockets[0].end(4401);
  await settled();
  assert.deepEqual([leader.client.state, follower.client.state], ["signed_out", "signed_out"]);
  return { leader, follower, browser, signIn: () => (follower.net.routes["GET /sync/"] = route) };
}

test("when another tab of the user is live again, the tabs that were signed out follow it", async () => {
  const { leader, follower, browser, signIn } = await signedOutTabs();
  signIn();
  const fresh = browser.open();
  await settled();
  assert.equal(leader.client.state, "signed_out");
  fresh.sockets[0].welcome({ unread: 2 });
  await settled();
  for (const tab of [leader, follower]) {
    assert.equal(tab.client.state, "live");
    assert.equal(tab.link.leading, false);
  }
  fresh.sockets[0].receive({ op: "change", n: 9, prev: 41, seq: 42, unread: 7, items: [] });
  await settled();
  assert.deepEqual([leader.client.unread, follower.client.unread], [7, 7]);
});

test("a live tab of another user wakes none", async () => {
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

test("on focus one tab leads again, and takes the other along", async () => {
  const { leader, follower, signIn } = await signedOutTabs();
  signIn();
  leader.client.nudge();
  await settled();
  assert.equal(leader.link.leading, true);
  leader.sockets.at(-1).welcome({ prev: null, seq: 50, reset: true, unread: 3 });
  await settled();
  assert.deepEqual([leader.client.state, follower.client.state], ["live", "live"]);
  assert.equal(follower.link.leading, false);
});
