import assert from "node:assert/strict";
import { test } from "node:test";
import { describeJob } from "../../notifications/static/notifications/job_element.js";
import { Localization } from "../../notifications/static/notifications/localization.js";
import { job } from "./fakes.js";

const strings = {
  running: "Running",
  queued: "Queued",
  failed: "Failed",
  cancelled: "Cancelled",
  succeeded: "Succeeded",
  of: "{current} of {total}",
  attempt: "attempt {attempt} of {most}",
};
const localization = new Localization({ strings, language: "en", now: () => 0 });
const describe = (values) => describeJob(job(1, { attempt: 1, max_attempts: 3, ...values }), localization);
const progress = { current: 1200, total: 4000, message: "1,200 ok" };

test("a running job has its state, its numbers and its message", () => {
  assert.deepEqual(describe({ state: "running", progress }), {
    state: "Running",
    progress: "1,200 of 4,000",
    attempt: "",
    outcome: "1,200 ok",
    text: "Running · 1,200 ok · 1,200 of 4,000",
    elapsed: "",
    pace: "",
  });
});

test("a job without a total has no numbers", () => {
  assert.equal(
    describe({ state: "running", progress: { ...progress, total: null } }).text,
    "Running · 1,200 ok",
  );
  assert.equal(describe({ state: "running", progress: null }).text, "Running");
});

test("a failed job has its reason, a cancelled one what it has done", () => {
  const error = { type: "t", title: "Failed", detail: "No answer." };
  assert.equal(describe({ state: "failed", done: true, error, progress }).text, "Failed · No answer.");
  const cancelled = { type: "cancelled", title: "Cancelled", detail: "It was cancelled." };
  assert.equal(
    describe({ state: "cancelled", done: true, error: cancelled, progress }).text,
    "Cancelled · 1,200 ok",
  );
});

test("the attempt is named from the second on, and a queued job shows no old message", () => {
  assert.equal(
    describe({ state: "queued", attempt: 2, progress, run_after: null }).text,
    "Queued · attempt 2 of 3",
  );
});
