import assert from "node:assert/strict";
import { test } from "node:test";
import { Requests } from "../../notifications/static/notifications/requests.js";
import { FakeClock, fakeFetch } from "./fakes.js";

const POST = { method: "POST" };

function makeRequests(routes) {
  const clock = new FakeClock();
  const net = fakeFetch(routes);
  const csrf = { header: "X-CSRFToken", getToken: () => "token" };
  const requests = new Requests({ fetch: net.fetch, clock, origin: "http://site.test", csrf });
  return { requests, clock, net };
}

/** Build requests whose first `failures` attempts fail with an error. */
function makeFailing(failures, error = new TypeError("Failed to fetch")) {
  let remaining = failures;
  return makeRequests({
    "POST /reports/": () => {
      remaining -= 1;
      return remaining >= 0 ? error : { json: {} };
    },
  });
}

const sentKeys = (net) => net.calls.map((call) => call.headers.get("Idempotency-Key"));

test("the CSRF token is sent to the page's own origin only, and not with safe methods", async () => {
  const { requests, net } = makeRequests({
    "POST /reports/": { json: {} },
    "GET /reports/": { json: {} },
    "POST /elsewhere": { json: {} },
  });
  await requests.send("/reports/", { method: "post" });
  await requests.send("/reports/");
  await requests.send("https://other.test/elsewhere", POST);
  assert.deepEqual(
    net.calls.map((call) => call.headers.get("X-CSRFToken")),
    ["token", null, null],
  );
});

test("a request accepts JSON and keeps its own headers", async () => {
  const { requests, net } = makeRequests({ "POST /reports/": { json: {} } });
  await requests.send("/reports/", { ...POST, headers: { "X-Own": "1" } });
  const [{ headers }] = net.calls;
  assert.equal(headers.get("Accept"), "application/json");
  assert.equal(headers.get("X-Own"), "1");
});

test("a request that got no response is sent again with the same key", async () => {
  const { requests, clock, net } = makeFailing(2);
  const response = requests.sendIdempotently("/reports/", { ...POST, body: "x" });
  await clock.advance(1_000);
  assert.equal(net.calls.length, 2);
  await clock.advance(3_000);
  assert.equal((await response).status, 200);
  const keys = sentKeys(net);
  assert.equal(keys.length, 3);
  assert.equal(new Set(keys).size, 1);
  assert.match(keys[0], /^[0-9a-f]{32}$/);
});

test("each request has its own key, unless the caller gives one", async () => {
  const { requests, net } = makeRequests({ "POST /reports/": { json: {} } });
  await requests.sendIdempotently("/reports/", POST);
  await requests.sendIdempotently("/reports/", POST);
  await requests.sendIdempotently("/reports/", { ...POST, headers: { "idempotency-key": "mine" } });
  const keys = sentKeys(net);
  assert.equal(new Set(keys).size, 3);
  assert.equal(keys[2], "mine");
});

test("after three failures of the network the promise rejects", async () => {
  const { requests, clock, net } = makeFailing(3);
  const rejection = assert.rejects(requests.sendIdempotently("/reports/", POST), TypeError);
  await clock.advance(4_000);
  await rejection;
  assert.equal(net.calls.length, 3);
});

test("an aborted request and a stream are not sent again", async () => {
  const aborted = makeFailing(1, new DOMException("Aborted", "AbortError"));
  await assert.rejects(aborted.requests.sendIdempotently("/reports/", POST), { name: "AbortError" });
  assert.equal(aborted.net.calls.length, 1);
  const streamed = makeFailing(1);
  const body = new ReadableStream({ start: (controller) => controller.close() });
  await assert.rejects(
    streamed.requests.sendIdempotently("/reports/", { ...POST, body, duplex: "half" }),
    TypeError,
  );
  assert.equal(streamed.net.calls.length, 1);
});

test("safe requests and requests to other origins have no key and are sent once", async () => {
  const { requests, net } = makeRequests({ "GET /reports/": { json: {} }, "POST /elsewhere": { json: {} } });
  await requests.sendIdempotently("/reports/");
  await requests.sendIdempotently("https://other.test/elsewhere", POST);
  assert.deepEqual(sentKeys(net), [null, null]);
});
