import assert from "node:assert/strict";
import { test } from "node:test";
import { parseLink } from "../../notifications/static/notifications/dom.js";
import { Localization } from "../../notifications/static/notifications/localization.js";

const now = Date.parse("2026-01-02T12:00:00Z");
const localize = (language = "en", strings = {}) => new Localization({ strings, language, now: () => now });

test("placeholders are filled, unknown ones stay, and values are not expanded again", () => {
  const localization = localize("en", { new: "{count} new of {total}" });
  assert.equal(localization.text("new", { count: "{total}" }), "{total} new of {total}");
});

test("counts over 99 are 99+", () => {
  assert.deepEqual(
    [0, 99, 100].map((count) => localize().formatBadge(count)),
    ["0", "99", "99+"],
  );
});

const AGES = { now: "just now", minutes_ago: "{count} min ago", hours_ago: "{count} h ago" };

test("times are relative up to a day, in the words of the server", () => {
  const localization = localize("en", AGES);
  assert.equal(localization.formatRelative("2026-01-02T11:59:30Z"), "just now");
  assert.equal(localization.formatRelative("2026-01-02T11:56:00Z"), "4 min ago");
  assert.equal(localization.formatRelative("2026-01-02T09:00:00Z"), "3 h ago");
  assert.equal(localization.formatRelative("2025-12-31T12:00:00Z"), "Dec 31, 2025");
});

test("a time that is a few seconds ahead of a slow clock is now", () => {
  assert.equal(localize("en", { now: "just now" }).formatRelative("2026-01-02T12:00:20Z"), "just now");
});

test("the language of the page is used, and one that is no BCP 47 tag does not raise", () => {
  assert.equal(localize("de").formatRelative("2025-12-31T12:00:00Z"), "31.12.2025");
  assert.ok(localize("zh_hant_tw!").formatRelative("2025-12-31T12:00:00Z"));
});

test("dates of other languages have the words of the server", () => {
  const date = (language) => localize(language).formatRelative("2025-09-01T12:00:00Z");
  assert.deepEqual(["de", "es", "fr"].map(date), [
    "01.09.2025",
    "1 de septiembre de 2025",
    "1 septembre 2025",
  ]);
});

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
    localize("en", PACE).formatPace({
      state: "running",
      attempt: 1,
      started_at: new Date(now - seconds * 1000).toISOString(),
      progress: { current, total, message: "" },
      ...values,
    });
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
    localize("en", RUNNING).formatElapsed({
      state: "running",
      started_at: new Date(now - seconds * 1000).toISOString(),
      ...values,
    });
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
  const localization = localize("en", {
    queued: "Queued",
    running: "Running",
    retry_at: "Queued, retry at {time}",
  });
  const state = (state, attempt, run_after) => localization.formatState({ state, attempt, run_after });
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

const ORIGIN = "https://site.test";

for (const url of [
  "javascript:alert(1)",
  "//evil.test/",
  "/\\evil.test/",
  "data:text/html,x",
  "ftp://x/",
  "",
  null,
  "report/",
  "https://",
]) {
  test(`${url} is not a safe link`, () => assert.equal(parseLink(url, ORIGIN), null));
}

test("paths and the site's own URLs are internal links, others external", () => {
  assert.deepEqual(parseLink("/reports/7/", ORIGIN), { href: "/reports/7/", isExternal: false });
  assert.deepEqual(parseLink("https://site.test/x", ORIGIN), {
    href: "https://site.test/x",
    isExternal: false,
  });
  assert.deepEqual(parseLink("https://other.test/x", ORIGIN), {
    href: "https://other.test/x",
    isExternal: true,
  });
});
