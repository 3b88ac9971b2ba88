import assert from "node:assert/strict";
import { test } from "node:test";
import { JobHandle } from "../../notifications/static/notifications/job_handle.js";
import {
  JobCancelled,
  JobFailed,
  Problem,
  RequestRefused,
} from "../../notifications/static/notifications/requests.js";
import { JOB, job, settled, syncFrame } from "./fakes.js";
import { livePage, makePage } from "./page.js";

const SELF = `/n/api/jobs/${JOB}/`;
const OTHER_JOB = "0192aaaa-0000-7000-8000-000000000009";
const POST = { method: "POST" };
const acceptedResponse = (values = {}) => ({
  status: 202,
  json: job(1, { state: "queued" }),
  headers: { Location: SELF },
  ...values,
});
const RESULT = { json: { rows: 3 } };
const ROUTES = { "POST /reports/": acceptedResponse(), [`GET ${SELF}result/`]: RESULT };
const sendJobs = (page, ...jobs) => page.last().receive({ op: "jobs", n: 9, jobs });
const finish = (page, item) =>
  page.last().receive({ op: "change", n: 9, prev: 41, seq: 42, unread: 3, items: [{ ...item, seq: 42 }] });

test("ask returns a handle at once, whose promises settle when the job is accepted and done", async () => {
  const page = livePage({ routes: { "POST /reports/": acceptedResponse(), [`GET ${SELF}result/`]: RESULT } });
  const handle = page.jobs.ask("/reports/", { ...POST, body: "x" });
  assert.ok(handle instanceof JobHandle);
  assert.deepEqual([handle.id, handle.item], [null, null]);
  assert.equal(await handle.accepted, JOB);
  assert.deepEqual([handle.id, handle.item.state], [JOB, "queued"]);
  finish(page, job(4, { state: "succeeded" }));
  assert.deepEqual(await handle.result, { rows: 3 });
});

test("a handle is not a thenable, so that an async function can return it", async () => {
  const page = livePage({ routes: { "POST /reports/": acceptedResponse() } });
  const handle = await (async () => page.jobs.ask("/reports/", POST))();
  assert.ok(handle instanceof JobHandle);
  assert.equal("then" in handle, false);
});

test("a listener that is added at once gets the first version of the job", async () => {
  const page = livePage({ routes: { "POST /reports/": acceptedResponse() } });
  const versions = [];
  const handle = page.jobs.ask("/reports/", POST);
  handle.on("change", (item) => versions.push(item.version));
  await handle.accepted;
  assert.deepEqual(versions, [1]);
});

test("two handles of one job, as after a replay, both follow it", async () => {
  const page = livePage({ routes: { "POST /reports/": acceptedResponse(), [`GET ${SELF}result/`]: RESULT } });
  const handles = [page.jobs.ask("/reports/", POST), page.jobs.ask("/reports/", POST)];
  await Promise.all(handles.map((handle) => handle.accepted));
  finish(page, job(4, { state: "succeeded" }));
  assert.deepEqual(await Promise.all(handles.map((handle) => handle.result)), [{ rows: 3 }, { rows: 3 }]);
});

test("a response that is the result itself settles both promises", async () => {
  const page = livePage({ routes: { "POST /check/": { json: { status: 200 } } } });
  const handle = page.jobs.ask("/check/", POST);
  assert.equal(await handle.accepted, null);
  assert.deepEqual(await handle.result, { status: 200 });
});

test("after a response that is a finished job the promise resolves with its result", async () => {
  const done = { json: job(5, { state: "succeeded" }) };
  const page = livePage({ routes: { "POST /check/": done, [`GET ${SELF}result/`]: RESULT } });
  assert.deepEqual(await page.jobs.ask("/check/", POST).result, { rows: 3 });
});

test("a 202 without a body is followed by its Location", async () => {
  const routes = {
    "POST /reports/": { status: 202, headers: { Location: SELF } },
    [`GET ${SELF}`]: { json: job(2) },
  };
  const page = livePage({ routes });
  const handle = page.jobs.ask("/reports/", POST);
  assert.equal(await handle.accepted, JOB);
  await settled();
  assert.equal(handle.item.version, 2);
});

test("a 202 without the Location of a job rejects", async () => {
  const page = livePage({ routes: { "POST /reports/": { status: 202 } } });
  await assert.rejects(page.jobs.ask("/reports/", POST).accepted, TypeError);
});

test("problem+json rejects both promises with RequestRefused", async () => {
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
  const handle = page.jobs.ask("/reports/", POST);
  for (const promise of [handle.accepted, handle.result]) {
    await assert.rejects(promise, (error) => {
      assert.ok(error instanceof RequestRefused && error instanceof Problem);
      assert.equal(error.message, "1,000 are active.");
      assert.deepEqual([error.status, error.retryAfter, error.problem.lines], [429, 7, [3]]);
      return true;
    });
  }
});

test("an error that is not problem+json is RequestRefused too", async () => {
  const page = livePage({
    routes: { "POST /reports/": { status: 502, json: "<html>", headers: { "Content-Type": "text/html" } } },
  });
  await assert.rejects(page.jobs.ask("/reports/", POST).accepted, { name: "RequestRefused", status: 502 });
});

test("progress, change and done are emitted once per version, in order", async () => {
  const page = livePage({ routes: { "POST /reports/": acceptedResponse() } });
  const handle = page.jobs.ask("/reports/", POST);
  await handle.accepted;
  const events = [];
  handle.on("progress", (progress) => events.push(["progress", progress.current]));
  handle.on("change", (item) => events.push(["change", item.version]));
  handle.on("done", (item) => events.push(["done", item.state]));
  const at = (version, current) => job(version, { progress: { current, total: 4, message: "" } });
  sendJobs(page, at(2, 1));
  sendJobs(page, at(2, 1));
  sendJobs(page, at(3, 1));
  sendJobs(page, at(4, 2));
  finish(page, job(5, { state: "succeeded" }));
  assert.deepEqual(events, [
    ["change", 2],
    ["progress", 1],
    ["change", 3],
    ["change", 4],
    ["progress", 2],
    ["change", 5],
    ["done", "succeeded"],
  ]);
});

test("a removed listener is not called", async () => {
  const page = livePage({ routes: { "POST /reports/": acceptedResponse() } });
  const handle = page.jobs.ask("/reports/", POST);
  await handle.accepted;
  const changes = [];
  handle.on("change", (item) => changes.push(item))();
  sendJobs(page, job(2));
  assert.deepEqual(changes, []);
});

test("a failed job rejects with JobFailed and its problem, a cancelled one with JobCancelled", async () => {
  const page = livePage();
  const failed = page.jobs.job(job(1));
  const error = { type: "/p/upstream", title: "Upstream away", detail: "No answer in 10 s." };
  finish(page, job(4, { state: "failed", error }));
  await assert.rejects(failed.result, (problem) => {
    assert.equal(problem.message, "No answer in 10 s.");
    assert.ok(problem instanceof JobFailed && problem instanceof Problem);
    assert.equal(problem.problem.type, "/p/upstream");
    assert.equal(problem.job.state, "failed");
    return true;
  });
  const cancelled = page.jobs.job(job(1, { id: OTHER_JOB }));
  sendJobs(page, job(3, { id: OTHER_JOB, state: "cancelled" }));
  await assert.rejects(cancelled.result, (problem) => {
    assert.ok(problem instanceof JobCancelled && !(problem instanceof JobFailed));
    assert.deepEqual([problem.name, problem.message], ["JobCancelled", "Cancelled"]);
    return true;
  });
});

test("for promises that a page does not use there is no unhandled rejection and no request of a result", async () => {
  const page = livePage({ routes: { "POST /reports/": { status: 422, json: { title: "Wrong" } } } });
  page.jobs.ask("/reports/", POST);
  void page.jobs.ask("/reports/", POST).result;
  void page.jobs.job(job(1)).result;
  page.jobs.job(job(1, { id: OTHER_JOB }));
  finish(page, job(4, { state: "failed" }));
  finish(page, job(4, { id: OTHER_JOB, state: "succeeded" }));
  await settled();
  assert.deepEqual(
    page.net.calls.map((call) => call.key),
    ["POST /reports/", "POST /reports/"],
  );
});

test("a job that ended during a disconnect settles after the catch-up", async () => {
  const page = livePage({ routes: { [`GET ${SELF}result/`]: RESULT }, random: () => 0 });
  const handle = page.jobs.job(job(2));
  page.last().end(1006);
  await page.clock.advance(0);
  page.last().welcome({ prev: 41, seq: 42, items: [job(6, { state: "succeeded", seq: 42 })] });
  assert.deepEqual(await handle.result, { rows: 3 });
});

test("a followed job that is missing from the active jobs is read, and its promise settles", async () => {
  const routes = {
    [`GET ${SELF}`]: { json: job(7, { state: "succeeded" }) },
    [`GET ${SELF}result/`]: RESULT,
  };
  const page = livePage({ routes });
  const handle = page.jobs.job(job(2));
  page.last().receive(syncFrame({ n: 9, epoch: "e2", reset: true, prev: null, seq: 3 }));
  assert.deepEqual(await handle.result, { rows: 3 });
});

test("a missing job without a handle is read too, and a listed one is not", async () => {
  const page = livePage({
    sync: { jobs: [job(2), job(2, { id: OTHER_JOB })] },
    routes: { [`GET ${SELF}`]: { json: job(7, { state: "failed" }) } },
  });
  page.last().receive(syncFrame({ n: 9, prev: 41, seq: 41, jobs: [job(3, { id: OTHER_JOB })] }));
  await settled();
  assert.deepEqual(
    page.net.calls.map((call) => call.key),
    [`GET ${SELF}`],
  );
  assert.equal(page.client.stream.jobs.get(JOB).state, "failed");
});

test("after an incomplete catch-up no job counts as missing", async () => {
  const page = livePage({ sync: { jobs: [job(2)] } });
  page.last().receive(syncFrame({ n: 9, prev: 41, seq: 60, more: true, jobs: undefined }));
  await settled();
  assert.equal(page.net.calls.length, 0);
});

test("job(id) reads the job immediately, and its promise rejects if the job does not exist", async () => {
  const page = livePage({
    routes: { [`GET ${SELF}`]: { status: 404, json: { type: "about:blank", title: "Not found" } } },
  });
  await assert.rejects(page.jobs.job(JOB).result, { status: 404 });
});

test("a job that ended before it was followed settles from the stream", async () => {
  const page = livePage({ routes: { [`GET ${SELF}result/`]: RESULT } });
  finish(page, job(4, { state: "succeeded" }));
  assert.deepEqual(await page.jobs.job(job(1, { state: "queued" })).result, { rows: 3 });
});

test("a job without a change for 5 s is read once", async () => {
  const routes = {
    [`GET ${SELF}`]: { json: job(7, { state: "succeeded" }) },
    [`GET ${SELF}result/`]: RESULT,
  };
  const page = livePage({ routes });
  const handle = page.jobs.job(job(1));
  await page.clock.advance(4_999);
  assert.equal(page.net.calls.length, 0);
  await page.clock.advance(1);
  assert.deepEqual(await handle.result, { rows: 3 });
});

test("a job that has changed is not read over HTTP", async () => {
  const page = livePage();
  page.jobs.job(job(1));
  sendJobs(page, job(2));
  await page.clock.advance(60_000);
  assert.equal(page.net.count(`GET ${SELF}`), 0);
});

test("a request for a result that fails temporarily is repeated", async () => {
  const answers = [
    new TypeError("away"),
    { status: 503, json: { title: "Busy" }, headers: { "Retry-After": "4" } },
    RESULT,
  ];
  const page = livePage({ routes: { [`GET ${SELF}result/`]: () => answers.shift() } });
  const handle = page.jobs.job(job(1));
  finish(page, job(4, { state: "succeeded" }));
  const { result } = handle;
  await page.clock.advance(1_000);
  await page.clock.advance(3_999);
  assert.equal(page.net.calls.length, 2);
  await page.clock.advance(1);
  assert.deepEqual(await result, { rows: 3 });
});

test("the result is read once, however often it is awaited", async () => {
  const page = livePage({ routes: { [`GET ${SELF}result/`]: RESULT } });
  const handle = page.jobs.job(job(1));
  finish(page, job(4, { state: "succeeded" }));
  await Promise.all([handle.result, handle.result]);
  await handle.result;
  assert.equal(page.net.calls.length, 1);
});

test("job() returns one handle for one job while it is active", () => {
  const page = livePage();
  assert.equal(page.jobs.job(job(1)), page.jobs.job(job(1)));
});

test("an abort of one handle ends no other one of the job", async () => {
  for (const isBefore of [true, false]) {
    const page = livePage({ routes: ROUTES });
    const controller = new AbortController();
    const first = page.jobs.ask("/reports/", { method: "POST", signal: controller.signal });
    await first.accepted;
    if (isBefore) controller.abort(new Error("gone"));
    const second = page.jobs.job(JOB);
    controller.abort(new Error("gone"));
    page
      .last()
      .receive({ op: "change", prev: 41, seq: 42, items: [job(4, { state: "succeeded", seq: 42 })] });
    assert.deepEqual(await second.result, { rows: 3 });
    await assert.rejects(first.result, /gone/);
  }
});

test("a job whose read hangs is read again after a minute", async (t) => {
  let reads = 0;
  const hang = ({ init }) =>
    new Promise((_, reject) =>
      init.signal?.addEventListener("abort", () => reject(init.signal.reason), { once: true }),
    );
  const page = livePage({
    routes: {
      ...ROUTES,
      [`GET ${SELF}`]: (request) => {
        reads += 1;
        return reads === 1 ? hang(request) : { json: job(4, { state: "succeeded" }) };
      },
    },
  });
  t.mock.method(AbortSignal, "timeout", (ms) => {
    const controller = new AbortController();
    page.clock.setTimeout(() => controller.abort(new DOMException("late", "TimeoutError")), ms);
    return controller.signal;
  });
  const handle = page.jobs.ask("/reports/", { method: "POST" });
  await handle.accepted;
  await page.clock.advance(5_000);
  page.last().end(1006);
  await page.clock.advance(3_000);
  page.last().welcome({ seq: 42, jobs: [] });
  await page.clock.advance(60_000);
  assert.equal(reads, 2);
  assert.deepEqual(await handle.result, { rows: 3 });
});

test("a job that goes back to a lower version, after the restore of a backup, settles", async () => {
  const page = livePage({ routes: ROUTES });
  const handle = page.jobs.ask("/reports/", { method: "POST" });
  await handle.accepted;
  page.last().receive({ op: "jobs", jobs: [job(8)] });
  page.last().end(1006);
  await page.clock.advance(3_000);
  page.last().welcome({ epoch: "e2", reset: true, prev: null, seq: 30, jobs: [job(4, { state: "queued" })] });
  page.last().receive({ op: "change", prev: 30, seq: 31, items: [job(6, { state: "succeeded", seq: 31 })] });
  assert.deepEqual([await handle.result, handle.item.version], [{ rows: 3 }, 6]);
});

test("after a sign-out the results of active jobs reject", async () => {
  const page = livePage();
  const handle = page.jobs.job(job(1));
  page.last().end(4401);
  await assert.rejects(handle.result, {
    name: "RequestRefused",
    status: 401,
    message: "You are not signed in. Sign in and try again.",
  });
});

test("the result is read from the job's link", async () => {
  const links = { self: SELF, result: "/elsewhere/42", cancel: null, retry: null };
  const page = livePage({ routes: { "GET /elsewhere/42": RESULT } });
  const handle = page.jobs.job(job(1));
  finish(page, job(4, { state: "succeeded", links }));
  assert.deepEqual(await handle.result, { rows: 3 });
});

test("a job whose result has no address rejects without a request", async () => {
  const links = { self: SELF, result: null, cancel: null, retry: null };
  const page = livePage({ routes: { [`GET ${SELF}result/`]: RESULT } });
  const handle = page.jobs.job(job(1));
  finish(page, job(4, { state: "succeeded", links }));
  await assert.rejects(handle.result, {
    name: "Problem",
    message: "The result of this job has no address.",
    job: handle.item,
  });
  assert.ok(!page.net.calls.some((call) => call.url.pathname.endsWith("/result/")));
});

test("a missing job is read again after an outage of the server", async () => {
  let isDown = true;
  const routes = {
    [`GET ${SELF}`]: () => (isDown ? new TypeError("away") : { json: job(7, { state: "succeeded" }) }),
    [`GET ${SELF}result/`]: RESULT,
  };
  const page = makePage({ routes, random: () => 0 });
  page.client.start();
  page.last().welcome();
  const handle = page.jobs.job(job(1));
  page.last().receive(syncFrame({ n: 9, prev: 41, seq: 41 }));
  await page.clock.advance(40_000);
  isDown = false;
  page.last().receive(syncFrame({ n: 10, prev: 41, seq: 41 }));
  assert.deepEqual(await handle.result, { rows: 3 });
});
