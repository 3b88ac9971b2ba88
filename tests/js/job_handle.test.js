import assert from "node:assert/strict";
import { test } from "node:test";
import { JobHandle } from "../../notifications/static/notifications/job_handle.js";
import { RequestRefused } from "../../notifications/static/notifications/requests.js";
import { JOB, job, settled } from "./fakes.js";
import { livePage } from "./page.js";

const SELF = `/n/api/jobs/${JOB}/`;
const POST = { method: "POST" };
const ACCEPTED = { status: 202, json: job(1, { state: "queued" }), headers: { Location: SELF } };
const links = (values) => ({ links: { self: SELF, result: null, cancel: null, retry: null, ...values } });
const cancellable = (version, values) => job(version, { ...links({ cancel: `${SELF}cancel/` }), ...values });
const retryable = (version, values) => job(version, { ...links({ retry: `${SELF}retry/` }), ...values });
const sendJob = (page, item) => page.last().receive({ op: "jobs", n: 9, jobs: [item] });

test("a handle has only what pages use", () => {
  const page = livePage({ routes: { "POST /reports/": ACCEPTED } });
  const handle = page.jobs.ask("/reports/", POST);
  assert.deepEqual(Reflect.ownKeys(handle), []);
  assert.deepEqual(Reflect.ownKeys(JobHandle.prototype).toSorted(), [
    "accepted",
    "cancel",
    "constructor",
    "id",
    "item",
    "on",
    "result",
    "retry",
  ]);
  assert.equal(Object.getPrototypeOf(JobHandle.prototype), Object.prototype);
});

test("cancel has the server cancel the job", async () => {
  const routes = { [`POST ${SELF}cancel/`]: { json: cancellable(2, { state: "cancelled" }) } };
  const page = livePage({ routes });
  const handle = page.jobs.job(cancellable(1));
  await handle.cancel();
  assert.equal(handle.item.state, "cancelled");
  await assert.rejects(handle.result, { name: "JobCancelled" });
  await handle.cancel(); // It is cancelled already.
  assert.equal(page.net.count(`POST ${SELF}cancel/`), 1);
});

test("cancel waits until the job is accepted", async () => {
  const routes = {
    "POST /reports/": { status: 202, headers: { Location: SELF } },
    [`GET ${SELF}`]: { json: cancellable(2) },
    [`POST ${SELF}cancel/`]: { status: 202, json: cancellable(3) },
  };
  const page = livePage({ routes });
  await page.jobs.ask("/reports/", POST).cancel();
  assert.deepEqual(
    page.net.calls.map((call) => call.key),
    ["POST /reports/", `GET ${SELF}`, `POST ${SELF}cancel/`],
  );
});

test("cancel rejects if the job has succeeded, was refused or does not exist, or if there is only a result", async () => {
  const routes = {
    "POST /check/": { json: { status: 200 } },
    "POST /reports/": { status: 409, json: { title: "Conflict" } },
    [`GET ${SELF}`]: { status: 404, json: { title: "Not Found" } },
  };
  const page = livePage({ routes });
  await assert.rejects(page.jobs.job(JOB).cancel(), { message: "Not Found" });
  await assert.rejects(page.jobs.job(job(1, { state: "succeeded" })).cancel(), {
    name: "RequestRefused",
    status: 409,
    message: "It is not possible to cancel the job: it is succeeded.",
  });
  await assert.rejects(page.jobs.ask("/reports/", POST).cancel(), { message: "Conflict" });
  await assert.rejects(page.jobs.ask("/check/", POST).cancel(), {
    message: "There is no job: the response was the result.",
  });
});

test("retry returns a new handle at once, whose promises settle with the new attempt", async () => {
  const routes = {
    [`POST ${SELF}retry/`]: { status: 202, json: job(5, { state: "queued" }) },
    [`GET ${SELF}result/`]: { json: { rows: 3 } },
  };
  const page = livePage({ routes });
  const failed = page.jobs.job(retryable(4, { state: "failed" }));
  await assert.rejects(failed.result, { name: "JobFailed" });
  const again = failed.retry();
  assert.ok(again instanceof JobHandle && again !== failed);
  assert.equal(await again.accepted, JOB);
  sendJob(page, job(7, { state: "succeeded" }));
  assert.deepEqual(await again.result, { rows: 3 });
});

test("retry is sent once: the network may have failed after the job was queued", async () => {
  let posts = 0;
  const lose = () => {
    posts += 1;
    throw new TypeError("Failed to fetch");
  };
  const page = livePage({ routes: { [`POST ${SELF}retry/`]: lose } });
  const next = page.jobs.job(retryable(3, { state: "failed" })).retry();
  await assert.rejects(next.accepted, /Failed to fetch/);
  await page.clock.advance(60_000);
  assert.equal(posts, 1);
});

test("retry of a job that cannot be retried rejects both promises", async () => {
  const page = livePage();
  const again = page.jobs.job(job(1)).retry();
  for (const promise of [again.accepted, again.result]) {
    await assert.rejects(promise, {
      status: 409,
      message: "It is not possible to retry the job: it is running.",
    });
  }
});

test("an aborted request rejects both promises, and is not sent again", async () => {
  const controller = new AbortController();
  const page = livePage({ routes: { "POST /reports/": new TypeError("away") } });
  const handle = page.jobs.ask("/reports/", { ...POST, signal: controller.signal });
  await settled();
  controller.abort();
  for (const promise of [handle.accepted, handle.result])
    await assert.rejects(promise, { name: "AbortError" });
});

test("after an abort the result rejects, no listener is called, and the job goes on", async () => {
  const controller = new AbortController();
  const page = livePage({ routes: { "POST /reports/": ACCEPTED } });
  const handle = page.jobs.ask("/reports/", { ...POST, signal: controller.signal });
  assert.equal(await handle.accepted, JOB);
  const versions = [];
  handle.on("change", (item) => versions.push(item.version));
  controller.abort(new Error("closed"));
  sendJob(page, job(2));
  await assert.rejects(handle.result, { message: "closed" });
  await page.clock.advance(60_000);
  assert.deepEqual(versions, []);
  assert.deepEqual(
    page.net.calls.map((call) => call.key),
    ["POST /reports/"],
  );
});

test("an abort ends the reading of the result", async () => {
  const controller = new AbortController();
  const routes = {
    "POST /reports/": ACCEPTED,
    [`GET ${SELF}result/`]: { status: 503, json: { title: "Busy" } },
  };
  const page = livePage({ routes });
  const handle = page.jobs.ask("/reports/", { ...POST, signal: controller.signal });
  await handle.accepted;
  sendJob(page, job(2, { state: "succeeded" }));
  const { result } = handle;
  await settled();
  const { signal } = page.net.calls.at(-1).init;
  assert.equal(signal, controller.signal);
  await Promise.all([assert.rejects(result, { status: 503 }), page.clock.advance(60_000)]);
});

for (const [name, errors] of Object.entries({
  "a list": [
    { field: "urls", detail: "Enter a URL." },
    { field: "title", detail: "It is too long." },
  ],
  "a dict of texts": { urls: ["Enter a URL."], title: ["It is too long."] },
  "a dict as Django's forms make it": { urls: [{ message: "Enter a URL.", code: "required" }] },
})) {
  test(`the message of a refused form is the error of its first field: ${name}`, async () => {
    const json = { title: "Unprocessable Entity", detail: "Some values are not valid.", status: 422, errors };
    const page = livePage({ routes: { "POST /reports/": { status: 422, json } } });
    await assert.rejects(page.jobs.ask("/reports/", POST).accepted, (error) => {
      assert.ok(error instanceof RequestRefused);
      assert.equal(error.message, "Enter a URL.");
      assert.deepEqual(error.problem.errors, errors);
      return true;
    });
  });
}
