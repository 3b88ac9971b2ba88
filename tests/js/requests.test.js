import assert from "node:assert/strict";
import { test } from "node:test";
import { Poller } from "../../notifications/static/notifications/polling.js";
import { Requests, refuseSignIn } from "../../notifications/static/notifications/requests.js";
import { FakeClock, fakeFetch } from "./fakes.js";

const POST = { method: "POST" };
const FORM = "POST /n/preferences/";

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

/** Build requests whose form gets this answer; the page to sign in is known. `signedOut` counts what the server has said. */
function makeForm(answer) {
  const clock = new FakeClock();
  const net = fakeFetch({ [FORM]: answer });
  const csrf = { header: "X-CSRFToken", getToken: () => "of now" };
  let signedOut = 0;
  const requests = new Requests({
    fetch: refuseSignIn(net.fetch, "/accounts/login/"),
    clock,
    origin: "http://site.test",
    csrf,
    viewer: "ada",
    onSignedOut: () => {
      signedOut += 1;
    },
  });
  const body = new URLSearchParams({ csrfmiddlewaretoken: "of then", hour: "3" });
  return { net, sent: requests.sendForm("/n/preferences/", body), count: () => signedOut };
}

/** The response to a request that was redirected, as fetch() returns it. */
function redirected(url, { json = null, type = "text/html" } = {}) {
  const response = new Response(JSON.stringify(json), { headers: { "Content-Type": type } });
  return Object.defineProperties(response, { redirected: { value: true }, url: { value: url } });
}

test("a form is sent for the user of the page, with the token of now", async () => {
  const { net, sent } = makeForm({ json: { location: "/n/preferences/?saved=1" } });
  assert.deepEqual(await sent, { location: "/n/preferences/?saved=1" });
  const [{ url, headers, init }] = net.calls;
  assert.equal(url.searchParams.get("viewer"), "ada");
  assert.equal(headers.get("Accept"), "application/json");
  assert.equal(headers.get("X-CSRFToken"), "of now");
  assert.equal(String(init.body), "hour=3");
});

for (const status of [401, 403, 409, 422, 429, 500, 503])
  test(`a form that is answered with ${status} is not done`, async () => {
    const { sent, count } = makeForm({ status, json: { title: "No", detail: "Because.", status } });
    await assert.rejects(sent, { name: "RequestRefused", status, message: "Because." });
    assert.equal(count(), status === 401 ? 1 : 0);
  });

test("a form that is redirected to the page to sign in is not done", async () => {
  for (const url of ["http://site.test/accounts/login/?next=/n/", "http://site.test/accounts/login/"]) {
    const { sent, count } = makeForm(redirected(url));
    await assert.rejects(sent, { name: "RequestRefused", status: 401, message: /Sign in/ });
    assert.equal(count(), 1);
  }
});

test("a form that is answered with another page is not done", async () => {
  const signIn = redirected("http://site.test/sso/");
  await assert.rejects(makeForm(signIn).sent, { name: "RequestRefused", status: 401 });
  const page = new Response("<p>Welcome to this network", { headers: { "Content-Type": "text/html" } });
  await assert.rejects(makeForm(page).sent, TypeError);
  assert.equal(await makeForm(new Response(null, { status: 204 })).sent, null);
});

test("a form that is not answered is not done", async () => {
  const { sent, count } = makeForm(new TypeError("Failed to fetch"));
  await assert.rejects(sent, TypeError);
  assert.equal(count(), 0);
});

test("another redirect is followed, and without a known page to sign in each", async () => {
  const answer = { json: { id: 1 }, type: "application/json" };
  const { sent } = makeForm(redirected("http://site.test/reports/1/", answer));
  assert.deepEqual(await sent, { id: 1 });
  const response = redirected("http://site.test/accounts/login/");
  assert.equal(await refuseSignIn(async () => response, "")("/"), response);
});

test("a poll that is redirected to the page to sign in ends signed out", async () => {
  const states = [];
  const poller = new Poller({
    url: "/n/api/sync/?background=1",
    fetch: refuseSignIn(async () => redirected("http://site.test/accounts/login/"), "/accounts/login/"),
    clock: new FakeClock(),
    callbacks: { getPosition: () => ({ epoch: null, seq: null }), onState: (state) => states.push(state) },
  });
  await poller.read();
  assert.deepEqual(states, ["signed_out"]);
});
