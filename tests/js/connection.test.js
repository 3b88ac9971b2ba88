import assert from "node:assert/strict";
import { test } from "node:test";
import { notification, syncFrame } from "./fakes.js";
import { livePage, makePage } from "./page.js";

const bye = (code, values = {}) => ({
  op: "bye",
  code,
  reason: "",
  detail: "",
  reconnect: true,
  after_ms: 0,
  ...values,
});

test("start and stop are idempotent, and a stopped client does not reconnect", async () => {
  const page = makePage();
  page.client.start();
  page.client.start();
  assert.equal(page.sockets.length, 1);
  page.client.stop();
  page.client.stop();
  assert.equal(page.last().closed, true);
  await page.clock.advance(120_000);
  assert.equal(page.sockets.length, 1);
  page.client.start();
  assert.equal(page.sockets.length, 2);
});

for (const [code, state] of [
  [4400, "refused"],
  [4401, "signed_out"],
  [4409, "refused"],
]) {
  test(`${code} is final, with and without a bye`, async () => {
    for (const hasBye of [true, false]) {
      const page = livePage();
      if (hasBye) page.last().receive(bye(code, { reconnect: false }));
      page.last().end(code);
      await page.clock.advance(300_000);
      assert.equal(page.sockets.length, 1);
      assert.equal(page.client.state, state);
    }
  });
}

test("a bye is final even if its close code is lost", async () => {
  const page = livePage();
  page.last().receive(bye(4401, { reconnect: false }));
  page.last().end(1006);
  await page.clock.advance(300_000);
  assert.equal(page.sockets.length, 1);
  assert.equal(page.client.state, "signed_out");
});

for (const code of [1000, 1006, 1011, 4000, 4408, 4999]) {
  test(`after ${code} the client reconnects within 3 s, with its position`, async () => {
    const page = livePage({ random: () => 0.999 });
    page.last().receive({ op: "change", n: 3, prev: 41, seq: 44, unread: 3, items: [notification("a", 44)] });
    page.last().end(code);
    assert.equal(page.client.state, "waiting");
    await page.clock.advance(3_000);
    assert.equal(page.sockets.length, 2);
    page.last().open();
    assert.deepEqual(page.last().sent, [{ op: "hello", epoch: "e1", seq: 44 }]);
  });
}

test("after 4000 the client waits as long as the server says, plus jitter", async () => {
  const page = livePage();
  page.last().receive(bye(4000, { after_ms: 2_000 }));
  page.last().end(4000);
  await page.clock.advance(1_999);
  assert.equal(page.sockets.length, 1);
  await page.clock.advance(501);
  assert.equal(page.sockets.length, 2);
});

test("after 4429 the client waits 30 s or more, even when the network comes back meanwhile", async () => {
  const page = livePage({ random: () => 0 });
  page.last().receive(bye(4429, { after_ms: 1_000 }));
  page.last().end(4429);
  page.client.checkConnection();
  await page.clock.advance(29_999);
  assert.equal(page.sockets.length, 1);
  await page.clock.advance(1);
  assert.equal(page.sockets.length, 2);
});

test("the backoff doubles from 3 s to 30 s with full jitter, and is reset by 30 s of connection", async () => {
  const page = makePage({ random: () => 0.999_999, routes: { "GET /n/api/sync/": new TypeError("away") } });
  page.client.start();
  const waits = [];
  for (let attempt = 0; attempt < 6; attempt += 1) {
    const before = page.clock.time;
    page.last().end(1006);
    const count = page.sockets.length;
    while (page.sockets.length === count) await page.clock.advance(100);
    waits.push(Math.round((page.clock.time - before) / 1000));
  }
  assert.deepEqual(waits, [3, 6, 12, 24, 30, 30]);
  page.last().welcome();
  await page.clock.advance(29_000);
  page.last().end(1006);
  await page.clock.advance(29_000);
  assert.equal(page.sockets.length, 7, "29 s do not reset the backoff");
  await page.clock.advance(1_000);
  page.last().welcome();
  await page.clock.advance(30_000);
  page.last().end(1006);
  await page.clock.advance(3_000);
  assert.equal(page.sockets.length, 9);
});

test("with full jitter the client may reconnect at once", async () => {
  const page = livePage({ random: () => 0 });
  page.last().end(1006);
  await page.clock.advance(0);
  assert.equal(page.sockets.length, 2);
});

test("when the browser reports the network, the client reconnects at once", async () => {
  const page = livePage({ random: () => 0.999 });
  page.last().end(1006);
  page.client.checkConnection();
  assert.equal(page.sockets.length, 2);
  await page.clock.advance(3_000);
  assert.equal(page.sockets.length, 2, "the old timer is gone");
});

test("an open connection is tested when the network changes, and replaced after 5 s without an answer", async () => {
  const page = livePage({ random: () => 0 });
  page.client.checkConnection();
  assert.deepEqual(page.last().ops(), ["ping"]);
  page.last().receive({ op: "beat", seq: 41 });
  await page.clock.advance(10_000);
  assert.equal(page.sockets.length, 1);
  page.client.checkConnection();
  await page.clock.advance(5_000);
  assert.equal(page.sockets.length, 2);
});

test("after 60 s without a frame the socket is replaced, without waiting for the close event", async () => {
  const page = livePage({ random: () => 0 });
  await page.clock.advance(50_000);
  page.last().receive({ op: "beat", seq: 41 });
  await page.clock.advance(59_999);
  assert.equal(page.sockets.length, 1);
  await page.clock.advance(1);
  assert.equal(page.sockets[0].closed, true);
  assert.equal(page.sockets.length, 2);
});

test("frames of an abandoned socket are ignored", async () => {
  const page = livePage({ random: () => 0 });
  await page.clock.advance(60_000);
  page.sockets[0].receive({ op: "change", n: 3, prev: 41, seq: 42, unread: 9, items: [] });
  page.sockets[0].end(4401);
  assert.equal(page.client.stream.cursor, 41);
  assert.equal(page.client.state, "connecting");
});

test("a socket that does not open is closed after 20 s", async () => {
  const page = makePage({ random: () => 0 });
  page.client.start();
  await page.clock.advance(20_000);
  assert.equal(page.sockets.length, 2);
});

test("a gap before welcome sends no sync", () => {
  const page = makePage();
  page.client.start();
  page.last().open();
  page.last().receive({ op: "change", n: 2, prev: 60, seq: 61, unread: 1, items: [] });
  assert.deepEqual(page.last().ops(), ["hello"]);
});

test("where no socket can be opened, the client polls every 15 s and keeps trying to connect", async () => {
  let seq = 41;
  const routes = {
    "GET /n/api/sync/": ({ url }) => ({
      json: syncFrame({ prev: Number(url.searchParams.get("seq")), seq, unread: 9 }),
    }),
  };
  const page = makePage({ routes });
  page.client.start();
  page.last().end(1006);
  await page.clock.advance(3_000);
  assert.equal(page.net.calls.length, 0, "one failure does not start polling");
  page.last().end(1006);
  await page.clock.advance(0);
  assert.equal(page.client.state, "polling");
  assert.equal(page.net.calls[0].url.search, "?background=1&epoch=e1&seq=41");
  seq = 43;
  await page.clock.advance(15_000);
  assert.equal(page.client.stream.cursor, 43);
  assert.ok(page.sockets.length > 2);
  page.last().welcome();
  assert.equal(page.client.state, "live");
  const polls = page.net.calls.length;
  await page.clock.advance(45_000);
  assert.equal(page.net.calls.length, polls);
});

test("polling reads all parts, and sends its ETag only for the same position", async () => {
  const frames = [
    { json: syncFrame({ prev: 41, seq: 50, more: true, jobs: undefined }), headers: { ETag: '"a"' } },
    { json: syncFrame({ prev: 50, seq: 55 }), headers: { ETag: '"b"' } },
    { status: 304 },
  ];
  const page = makePage({ routes: { "GET /n/api/sync/": () => frames.shift() } });
  page.client.start();
  page.client.refresh();
  await page.clock.advance(0);
  assert.equal(page.client.stream.cursor, 55);
  page.client.refresh();
  await page.clock.advance(0);
  assert.deepEqual(
    page.net.calls.map((call) => call.headers.get("If-None-Match")),
    [null, null, '"b"'],
  );
});

test("a poll that is answered 401 is final", async () => {
  const page = makePage({ routes: { "GET /n/api/sync/": { status: 401, json: {} } } });
  page.client.start();
  page.last().end(1006);
  await page.clock.advance(3_000);
  page.last().end(1006);
  await page.clock.advance(0);
  assert.equal(page.client.state, "signed_out");
  const sockets = page.sockets.length;
  await page.clock.advance(120_000);
  assert.equal(page.sockets.length, sockets);
});

test("during an outage of the server the state is waiting, not polling", async () => {
  const page = makePage({ routes: { "GET /n/api/sync/": new TypeError("away") } });
  page.client.start();
  page.last().end(1006);
  await page.clock.advance(3_000);
  page.last().end(1006);
  await page.clock.advance(0);
  assert.equal(page.client.state, "waiting");
});

test("refresh reads over HTTP only where no frames are pushed", async () => {
  const page = livePage({ routes: { "GET /n/api/sync/": { json: syncFrame() } } });
  page.client.refresh();
  await page.clock.advance(0);
  assert.equal(page.net.calls.length, 0);
});

/** Build a page without a position whose poll waits until `answer(frame)` is called. */
async function pollingPage(routes) {
  const waiting = [];
  const pending = () => new Promise((resolve) => waiting.push((json) => resolve({ json })));
  const page = makePage({ start: {}, routes: { "GET /n/api/sync/": pending, ...routes } });
  page.client.start();
  page.client.refresh();
  await page.clock.advance(0);
  const answer = async (frame) => {
    waiting.shift()(frame);
    await page.clock.advance(0);
  };
  return { page, answer };
}

test("a snapshot over HTTP that is older than the socket's is dropped, and its successor requested", async () => {
  const { page, answer } = await pollingPage();
  page.last().welcome({ prev: null, seq: 50, reset: true, unread: 2, items: [notification("a", 50)] });
  page.last().receive({ op: "change", n: 3, prev: 50, seq: 51, unread: 3, items: [notification("b", 51)] });
  await answer(syncFrame({ prev: null, seq: 49, reset: true, unread: 1, items: [] }));
  assert.deepEqual([page.client.stream.cursor, page.client.unread], [51, 3]);
  assert.deepEqual([...page.client.stream.notifications.keys()], ["a", "b"]);
  assert.equal(page.net.calls.at(-1).url.search, "?background=1&epoch=e1&seq=51");
  await answer(syncFrame({ prev: 51, seq: 51, unread: 3 }));
  assert.equal(page.net.calls.length, 2);
});

test("a change of the page itself that a poll in flight may not know is read by another one", async () => {
  const { page, answer } = await pollingPage();
  page.client.refresh();
  page.client.refresh();
  await answer(syncFrame({ prev: null, seq: 3, reset: true, unread: 1, items: [] }));
  assert.deepEqual([page.client.unread, page.net.calls.length], [1, 2]);
  await answer(syncFrame({ prev: 3, seq: 4, unread: 0 }));
  assert.deepEqual([page.client.unread, page.net.calls.length], [0, 2]);
});

test("an answer of an earlier epoch is dropped", async () => {
  const { page, answer } = await pollingPage();
  await answer(syncFrame({ prev: null, seq: 3, reset: true, items: [] }));
  page.client.refresh();
  await page.clock.advance(0);
  page.last().welcome({ epoch: "e2", prev: null, seq: 50, reset: true, unread: 2 });
  await answer(syncFrame({ prev: 3, seq: 4, unread: 1, items: [notification("gone", 4)] }));
  assert.deepEqual([page.client.stream.epoch, page.client.stream.cursor], ["e2", 50]);
  assert.equal(page.client.stream.notifications.size, 0);
});

test("a poll that hangs in a dead connection is aborted after 30 s, and does not block the next one", async (t) => {
  const dead = ({ init }) =>
    new Promise((_, reject) => init.signal?.addEventListener("abort", () => reject(init.signal.reason)));
  const page = makePage({ routes: { "GET /n/api/sync/": dead } });
  t.mock.method(AbortSignal, "timeout", (ms) => {
    const timeout = new AbortController();
    page.clock.setTimeout(() => timeout.abort(), ms);
    return timeout.signal;
  });
  page.client.start();
  page.client.refresh();
  await page.clock.advance(10_000);
  page.net.routes["GET /n/api/sync/"] = { json: syncFrame({ prev: 41, seq: 44 }) };
  await page.clock.advance(20_000);
  page.client.refresh();
  await page.clock.advance(0);
  assert.equal(page.client.stream.cursor, 44);
});

test("a poll URL keeps its own query", async () => {
  const page = makePage({
    pollUrl: "/n/api/sync/?user=u1",
    routes: { "GET /n/api/sync/": { json: syncFrame() } },
  });
  page.client.start();
  page.client.refresh();
  await page.clock.advance(0);
  assert.equal(page.net.calls[0].url.search, "?user=u1&epoch=e1&seq=41");
});
