import assert from "node:assert/strict";
import { test } from "node:test";
import { Localization } from "../../notifications/static/notifications/localization.js";
import { parseLink } from "../../notifications/static/notifications/rows.js";

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

test("a date of this year is without the year, in the words of the server", () => {
  const formatDay = (language) =>
    new Localization({ strings: {}, language, now: () => Date.parse("2025-12-30T12:00:00Z") }).formatRelative(
      "2025-09-02T12:00:00Z",
    );
  assert.deepEqual(["en", "de", "es", "fr"].map(formatDay), [
    "Sep 2",
    "02.09.",
    "2 de septiembre",
    "2 septembre",
  ]);
});

test("a time that matters to the minute has its day, without this year", () => {
  const formatShort = (language, local) => localize(language).formatShort(new Date(local).toISOString());
  assert.equal(formatShort("en", "2026-01-02T23:05"), "today, 23:05");
  assert.equal(formatShort("en", "2026-01-03T08:00"), "tomorrow, 08:00");
  assert.equal(formatShort("de", "2026-01-01T08:00"), "gestern, 08:00");
  assert.equal(formatShort("en", "2026-02-04T08:00"), "Feb 4, 08:00");
  assert.equal(formatShort("en", "2025-12-31T08:00"), "Dec 31, 2025, 08:00");
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
