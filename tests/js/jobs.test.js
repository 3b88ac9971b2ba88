import assert from "node:assert/strict";
import { test } from "node:test";
import { JobHandle, Problem } from "../../notifications/static/notifications/jobs.js";
import { job, JOB, settled, syncFrame } from "./fakes.js";
import { livePage, makePage } from "./page.js";

const SELF = `/n/api/jobs/${JOB}/`;
const asked = (values = {}) => ({
  status: 202,
  json: job(1, { state: "queued" }),
  headers: { Location: SELF },
  ...values,
});
const result = { json: { rows: 3 } };
const tell = (page, ...jobs) => page.last().receive({ op: "jobs", n: 9, jobs });
const finish = (page, item) =>
  page.last().receive({ op: "change", n: 9, prev: 41, seq: 42, unread: 3, items: [{ ...item, seq: 42 }] });

test("ask gives the job, and awaiting the job gives its result", async () => {
  const page = livePage({ routes: { "POST /reports/": asked(), [`GET ${SELF}result/`]: result } });
  const handle = await page.jobs.ask("/reports/", { method: "POST", body: "x" });
  assert.ok(handle instanceof JobHandle);
  assert.equal(handle.item.state, "queued");
  finish(page, job(4, { state: "succeeded" }));
  assert.deepEqual(await handle, { rows: 3 });
});

test("ask().then() gets the job too, and may await it", async () => {
  const page = livePage({ routes: { "POST /reports/": asked(), [`GET ${SELF}result/`]: result } });
  const rows = page.jobs.ask("/reports/", { method: "POST" }).then(async (handle) => (await handle).rows);
  await settled();
  finish(page, job(4, { state: "succeeded" }));
  assert.equal(await rows, 3);
});

test("ask().catch() does not flatten the job either", async () => {
  const page = livePage({ routes: { "POST /reports/": asked() } });
  const handle = await page.jobs.ask("/reports/", { method: "POST" }).catch(() => "not this");
  assert.equal(handle.id, JOB);
});

test("the CSRF token goes to the page's own origin only, and not with safe methods", async () => {
  const routes = {
    "POST /reports/": asked(),
    "GET /reports/": { json: {} },
    "POST /elsewhere": { json: {} },
  };
  const page = livePage({ routes });
  await page.jobs.ask("/reports/", { method: "post", headers: { "X-Mine": "1" } });
  await page.jobs.ask("/reports/");
  await page.jobs.ask("https://other.test/elsewhere", { method: "POST" });
  const tokens = Object.fromEntries(
    page.net.calls.map((call) => [call.url.pathname + call.key.slice(0, 4), call.headers.get("X-CSRFToken")]),
  );
  assert.equal(tokens["/reports/POST"], "token");
  assert.equal(tokens["/reports/GET "], null);
  assert.equal(tokens["/elsewherePOST"], null);
});

test("an unsafe request carries the token and asks for JSON", async () => {
  const page = livePage({ routes: { "POST /reports/": asked() } });
  await page.jobs.ask("/reports/", { method: "POST", headers: { "X-Mine": "1" } });
  const [{ headers }] = page.net.calls;
  assert.equal(headers.get("X-CSRFToken"), "token");
  assert.equal(headers.get("Accept"), "application/json");
  assert.equal(headers.get("X-Mine"), "1");
});

const keys = (page) => page.net.calls.map((call) => call.headers.get("Idempotency-Key"));

/** A page whose network fails so often, and then answers. */
function failing(times, error = new TypeError("Failed to fetch")) {
  return livePage({ routes: { "POST /reports/": () => (times-- > 0 ? error : asked()) } });
}

test("a request that got no answer is sent again with the same key", async () => {
  const page = failing(2);
  const handle = page.jobs.ask("/reports/", { method: "POST", body: "x" }).then((job) => ({ job }));
  await page.clock.advance(1_000);
  assert.equal(keys(page).length, 2);
  await page.clock.advance(3_000);
  assert.equal((await handle).job.id, JOB);
  assert.equal(keys(page).length, 3);
  assert.equal(new Set(keys(page)).size, 1);
  assert.match(keys(page)[0], /^[0-9a-f]{32}$/);
});

test("each wish has a key of its own, unless it brings one", async () => {
  const page = livePage({ routes: { "POST /reports/": asked() } });
  await page.jobs.ask("/reports/", { method: "POST" });
  await page.jobs.ask("/reports/", { method: "POST" });
  await page.jobs.ask("/reports/", { method: "POST", headers: { "idempotency-key": "mine" } });
  assert.equal(new Set(keys(page)).size, 3);
  assert.equal(keys(page)[2], "mine");
});

test("the network's error is told in the end", async () => {
  const page = failing(3);
  const asking = assert.rejects(async () => await page.jobs.ask("/reports/", { method: "POST" }), TypeError);
  await page.clock.advance(4_000);
  await asking;
  assert.equal(keys(page).length, 3);
});

test("what was aborted, or cannot be sent twice, is not sent again", async () => {
  const page = failing(1, new DOMException("Aborted", "AbortError"));
  await assert.rejects(async () => await page.jobs.ask("/reports/", { method: "POST" }), {
    name: "AbortError",
  });
  assert.equal(keys(page).length, 1);
  const other = failing(1);
  const stream = new ReadableStream({ start: (controller) => controller.close() });
  const init = { method: "POST", body: stream, duplex: "half" };
  await assert.rejects(async () => await other.jobs.ask("/reports/", init), TypeError);
  assert.equal(keys(other).length, 1);
});

test("requests that only read, or go elsewhere, have no key and are sent once", async () => {
  const routes = { "GET /reports/": { json: {} }, "POST /elsewhere": { json: {} } };
  const page = livePage({ routes });
  await page.jobs.ask("/reports/");
  await page.jobs.ask("https://other.test/elsewhere", { method: "POST" });
  assert.deepEqual(keys(page), [null, null]);
});

test("an answer that is the result already gives a handle that is settled", async () => {
  const page = livePage({ routes: { "POST /check/": { json: { status: 200 } } } });
  const handle = await page.jobs.ask("/check/", { method: "POST" });
  assert.deepEqual(await handle, { status: 200 });
});

test("an answer that is a finished job gives its result", async () => {
  const done = { json: job(5, { state: "succeeded" }) };
  const page = livePage({ routes: { "POST /check/": done, [`GET ${SELF}result/`]: result } });
  assert.deepEqual(await await page.jobs.ask("/check/", { method: "POST" }), { rows: 3 });
});

test("a 202 without a body is followed by its Location", async () => {
  const routes = {
    "POST /reports/": { status: 202, headers: { Location: SELF } },
    [`GET ${SELF}`]: { json: job(2) },
  };
  const page = livePage({ routes });
  const handle = await page.jobs.ask("/reports/", { method: "POST" });
  await settled();
  assert.equal(handle.item.version, 2);
});

test("problem+json becomes a Problem with title, detail, status and Retry-After", async () => {
  const problem = {
    type: "/p/too-many",
    title: "Too many",
    detail: "1,000 are active.",
    status: 429,
    lines: [3],
  };
  const page = livePage({
    routes: { "POST /reports/": { status: 429, json: problem, headers: { "Retry-After": "7" } } },
  });
  await assert.rejects(
    async () => await page.jobs.ask("/reports/", { method: "POST" }),
    (error) => {
      assert.ok(error instanceof Problem);
      assert.equal(error.message, "1,000 are active.");
      assert.deepEqual([error.status, error.retryAfter, error.problem.lines], [429, 7, [3]]);
      return true;
    },
  );
});

test("an error that is not problem+json still is a Problem", async () => {
  const page = livePage({
    routes: { "POST /reports/": { status: 502, json: "<html>", headers: { "Content-Type": "text/html" } } },
  });
  await assert.rejects(async () => await page.jobs.ask("/reports/", { method: "POST" }), {
    name: "Problem",
    status: 502,
  });
});

test("progress, change and done are told once per version, in order", async () => {
  const page = livePage({ routes: { "POST /reports/": asked() } });
  const handle = await page.jobs.ask("/reports/", { method: "POST" });
  const heard = [];
  handle.on("progress", (progress) => heard.push(["progress", progress.current]));
  handle.on("change", (item) => heard.push(["change", item.version]));
  handle.on("done", (item) => heard.push(["done", item.state]));
  const at = (version, current) => job(version, { progress: { current, total: 4, message: "" } });
  tell(page, at(2, 1));
  tell(page, at(2, 1));
  tell(page, at(3, 1));
  tell(page, at(4, 2));
  finish(page, job(5, { state: "succeeded" }));
  assert.deepEqual(heard, [
    ["change", 2],
    ["progress", 1],
    ["change", 3],
    ["change", 4],
    ["progress", 2],
    ["change", 5],
    ["done", "succeeded"],
  ]);
});

test("an ended subscription hears nothing", async () => {
  const page = livePage({ routes: { "POST /reports/": asked() } });
  const handle = await page.jobs.ask("/reports/", { method: "POST" });
  const heard = [];
  handle.on("change", (item) => heard.push(item))();
  tell(page, job(2));
  assert.deepEqual(heard, []);
});

test("a failed job rejects with its problem, a cancelled one says so", async () => {
  const page = livePage();
  const failed = page.jobs.job(job(1));
  finish(
    page,
    job(4, {
      state: "failed",
      error: { type: "/p/upstream", title: "Upstream away", detail: "No answer in 10 s." },
    }),
  );
  await assert.rejects(
    async () => await failed,
    (error) => {
      assert.equal(error.message, "No answer in 10 s.");
      assert.equal(error.problem.type, "/p/upstream");
      assert.equal(error.job.state, "failed");
      return true;
    },
  );
  const other = "0192aaaa-0000-7000-8000-000000000009";
  const cancelled = page.jobs.job(job(1, { id: other }));
  tell(page, job(3, { id: other, state: "cancelled" }));
  await assert.rejects(async () => await cancelled, { message: "Cancelled" });
});

test("nobody has to await a job that fails", async () => {
  const page = livePage();
  page.jobs.job(job(1));
  finish(page, job(4, { state: "failed" }));
  await settled();
});

test("a job that ended while nobody was connected settles after the catch-up", async () => {
  const page = livePage({ routes: { [`GET ${SELF}result/`]: result }, random: () => 0 });
  const handle = page.jobs.job(job(2));
  page.last().end(1006);
  await page.clock.advance(0);
  page.last().welcome({ prev: 41, seq: 42, items: [job(6, { state: "succeeded", seq: 42 })] });
  assert.deepEqual(await handle, { rows: 3 });
});

test("a job that is awaited and missing from the active ones is read, and settles", async () => {
  const routes = {
    [`GET ${SELF}`]: { json: job(7, { state: "succeeded" }) },
    [`GET ${SELF}result/`]: result,
  };
  const page = livePage({ routes });
  const handle = page.jobs.job(job(2));
  page.last().receive(syncFrame({ n: 9, epoch: "e2", reset: true, prev: null, seq: 3 }));
  assert.deepEqual(await handle, { rows: 3 });
});

test("a job that is only held and missing is read too; one that is listed is not", async () => {
  const other = "0192aaaa-0000-7000-8000-000000000009";
  const page = livePage({
    sync: { jobs: [job(2), job(2, { id: other })] },
    routes: { [`GET ${SELF}`]: { json: job(7, { state: "failed" }) } },
  });
  page.last().receive(syncFrame({ n: 9, prev: 41, seq: 41, jobs: [job(3, { id: other })] }));
  await settled();
  assert.deepEqual(
    page.net.calls.map((call) => call.key),
    [`GET ${SELF}`],
  );
  assert.equal(page.client.stream.jobs.get(JOB).state, "failed");
});

test("a part of a catch-up does not make a job missing", async () => {
  const page = livePage({ sync: { jobs: [job(2)] } });
  page.last().receive(syncFrame({ n: 9, prev: 41, seq: 60, more: true, jobs: undefined }));
  await settled();
  assert.equal(page.net.calls.length, 0);
});

test("a job by its id is read at once; one that is not there rejects", async () => {
  const page = livePage({
    routes: { [`GET ${SELF}`]: { status: 404, json: { type: "about:blank", title: "Not found" } } },
  });
  await assert.rejects(async () => await page.jobs.job(JOB), { status: 404 });
});

test("a job that the page heard of before it was asked about settles by what is held", async () => {
  const page = livePage({ routes: { [`GET ${SELF}result/`]: result } });
  finish(page, job(4, { state: "succeeded" }));
  assert.deepEqual(await page.jobs.job(job(1, { state: "queued" })), { rows: 3 });
});

test("a job of which nothing is heard for 5 s is read once", async () => {
  const routes = {
    [`GET ${SELF}`]: { json: job(7, { state: "succeeded" }) },
    [`GET ${SELF}result/`]: result,
  };
  const page = livePage({ routes });
  const handle = page.jobs.job(job(1));
  await page.clock.advance(4_999);
  assert.equal(page.net.calls.length, 0);
  await page.clock.advance(1);
  assert.deepEqual(await handle, { rows: 3 });
});

test("a job that was heard of is left to the stream", async () => {
  const page = livePage();
  page.jobs.job(job(1));
  tell(page, job(2));
  await page.clock.advance(60_000);
  assert.equal(page.net.asked(`GET ${SELF}`), 0);
});

test("a result that cannot be read for the moment is asked for again", async () => {
  const answers = [
    new TypeError("away"),
    { status: 503, json: { title: "Busy" }, headers: { "Retry-After": "4" } },
    result,
  ];
  const page = livePage({ routes: { [`GET ${SELF}result/`]: () => answers.shift() } });
  const handle = page.jobs.job(job(1));
  finish(page, job(4, { state: "succeeded" }));
  const rows = handle.then((value) => value.rows);
  await page.clock.advance(1_000);
  await page.clock.advance(3_999);
  assert.equal(page.net.calls.length, 2);
  await page.clock.advance(1);
  assert.equal(await rows, 3);
});

test("the result is read once, however often it is awaited", async () => {
  const page = livePage({ routes: { [`GET ${SELF}result/`]: result } });
  const handle = page.jobs.job(job(1));
  finish(page, job(4, { state: "succeeded" }));
  await Promise.all([handle, handle, handle.finally(() => undefined)]);
  assert.equal(page.net.calls.length, 1);
});

test("one job has one handle while it runs", () => {
  const page = livePage();
  assert.equal(page.jobs.job(job(1)), page.jobs.job(job(1)));
});

test("signed out: what was awaited rejects", async () => {
  const page = livePage();
  const handle = page.jobs.job(job(1));
  page.last().end(4401);
  await assert.rejects(async () => await handle, { status: 401 });
});

test("the result is read where the job says it is", async () => {
  const links = { self: SELF, result: "/elsewhere/42", cancel: null, retry: null };
  const page = livePage({ routes: { "GET /elsewhere/42": result } });
  const handle = page.jobs.job(job(1));
  finish(page, job(4, { state: "succeeded", links }));
  assert.deepEqual(await handle, { rows: 3 });
});

test("a job whose result has no address is a Problem, and nothing is asked for", async () => {
  const links = { self: SELF, result: null, cancel: null, retry: null };
  const page = livePage({ routes: { [`GET ${SELF}result/`]: result } });
  const handle = page.jobs.job(job(1));
  finish(page, job(4, { state: "succeeded", links }));
  await assert.rejects(async () => await handle, {
    name: "Problem",
    message: "The result of this job has no address.",
    job: handle.item,
  });
  assert.ok(!page.net.calls.some((call) => call.url.pathname.endsWith("/result/")));
});

test("while the server is away a missing job stays awaited", async () => {
  let away = true;
  const routes = {
    [`GET ${SELF}`]: () => (away ? new TypeError("away") : { json: job(7, { state: "succeeded" }) }),
    [`GET ${SELF}result/`]: result,
  };
  const page = makePage({ routes, random: () => 0 });
  page.client.start();
  page.last().welcome();
  const handle = page.jobs.job(job(1));
  page.last().receive(syncFrame({ n: 9, prev: 41, seq: 41 }));
  await page.clock.advance(40_000);
  away = false;
  page.last().receive(syncFrame({ n: 10, prev: 41, seq: 41 }));
  assert.deepEqual(await handle, { rows: 3 });
});
