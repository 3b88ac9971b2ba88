import assert from "node:assert/strict";
import { test } from "node:test";
import {
  describeJob,
  formatElapsed,
  formatPace,
  formatState,
} from "../../notifications/static/notifications/job_texts.js";
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

const now = Date.parse("2026-01-02T12:00:00Z");
const localize = (strings) => new Localization({ strings, language: "en", now: () => now });

const PACE = {
  pace: "{rate}, {time}",
  per_second: "{count} per second",
  per_minute: "{count} per minute",
  seconds_left: "about {count} s left",
  minutes_left: "about {count} min left",
  hours_left: "about {count} h left",
};

test("the pace of a job is that of the server", () => {
  const pace = (current, total, seconds, values = {}) =>
    formatPace(
      {
        state: "running",
        attempt: 1,
        started_at: new Date(now - seconds * 1000).toISOString(),
        progress: { current, total, message: "" },
        ...values,
      },
      localize(PACE),
    );
  assert.equal(pace(42, 546, 10), "4.2 per second, about 2 min left");
  assert.equal(pace(20000, 20100, 10), "2,000 per second, about 1 s left");
  assert.equal(pace(10, 20, 60), "10 per minute, about 1 min left");
  assert.equal(pace(5, 10, 25), "12 per minute, about 25 s left");
  assert.equal(pace(1, 91, 60), "1 per minute, about 1.5 h left");
  assert.equal(pace(3, 9, 4), "");
  assert.equal(pace(0, 9, 60), "");
  assert.equal(pace(9, 9, 60), "");
  assert.equal(pace(3, null, 60), "");
  assert.equal(pace(3, 9, 60, { attempt: 2 }), "");
  assert.equal(pace(3, 9, 60, { state: "queued" }), "");
  assert.equal(pace(3, 9, 60, { progress: null }), "");
});

test("how long a job has been running is said in the words of the server", () => {
  const RUNNING = {
    seconds_running: "Running for {count} s",
    minutes_running: "Running for {count} min",
    hours_running: "Running for {count} h",
  };
  const elapsed = (seconds, values = {}) =>
    formatElapsed(
      {
        state: "running",
        started_at: new Date(now - seconds * 1000).toISOString(),
        ...values,
      },
      localize(RUNNING),
    );
  assert.equal(elapsed(0), "Running for 0 s");
  assert.equal(elapsed(59.9), "Running for 59 s");
  assert.equal(elapsed(60), "Running for 1 min");
  assert.equal(elapsed(239), "Running for 3 min");
  assert.equal(elapsed(3600), "Running for 1 h");
  assert.equal(elapsed(30 * 3600), "Running for 30 h");
  assert.equal(elapsed(-20), "Running for 0 s"); // a clock that is behind the server's
  assert.equal(elapsed(60, { state: "queued" }), "");
  assert.equal(elapsed(60, { started_at: null }), "");
});

test("the state of a job is one word, with the time of a retry", () => {
  const localization = localize({
    queued: "Queued",
    running: "Running",
    retry_at: "Queued, retry at {time}",
  });
  const state = (state, attempt, run_after) => formatState({ state, attempt, run_after }, localization);
  const time = new Date(now + 60_000).toLocaleTimeString("en", {
    hour: "2-digit",
    minute: "2-digit",
    hourCycle: "h23",
  });
  assert.equal(state("running", 1, null), "Running");
  assert.equal(state("queued", 1, "2026-01-02T12:01:00Z"), `Queued, retry at ${time}`);
  assert.equal(state("queued", 0, "2026-01-02T12:01:00Z"), "Queued");
  assert.equal(state("queued", 1, "2026-01-02T11:59:00Z"), "Queued");
  assert.match(state("queued", 1, "2026-01-04T12:00:00Z"), /^Queued, retry at Jan 4, 2026/);
});
