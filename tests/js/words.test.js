import assert from "node:assert/strict";
import { test } from "node:test";
import { Words } from "../../notifications/static/notifications/words.js";

const now = Date.parse("2026-01-02T12:00:00Z");
const make = (language = "en", strings = {}) =>
  new Words({ strings, language, origin: "https://site.test", now: () => now });

test("placeholders are filled, unknown ones stay, and values are not looked into again", () => {
  const words = make("en", { new: "{count} new of {total}" });
  assert.equal(words.say("new", { count: "{total}" }), "{total} new of {total}");
});

test("counts over 99 are 99+", () => {
  assert.deepEqual(
    [0, 99, 100].map((count) => make().count(count)),
    ["0", "99", "99+"],
  );
});

test("times are relative up to a day", () => {
  const words = make("en", { now: "just now" });
  assert.equal(words.ago("2026-01-02T11:59:30Z"), "just now");
  assert.equal(words.ago("2026-01-02T11:56:00Z"), "4 min. ago");
  assert.equal(words.ago("2026-01-02T09:00:00Z"), "3 hr. ago");
  assert.equal(words.ago("2025-12-31T12:00:00Z"), "Dec 31, 2025");
});

test("a clock that is a little behind does not speak of the future", () => {
  assert.equal(make("en", { now: "just now" }).ago("2026-01-02T12:00:20Z"), "just now");
});

test("the page's language is used, and one that is no BCP 47 tag does not break", () => {
  assert.equal(make("de").ago("2026-01-02T09:00:00Z"), "vor 3 Std.");
  assert.ok(make("zh_hant_tw!").ago("2026-01-02T09:00:00Z"));
});

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
  test(`${url} is not followed`, () => assert.equal(make().link(url), null));
}

test("paths and the site's own addresses are inside, others outside", () => {
  assert.deepEqual(make().link("/reports/7/"), { href: "/reports/7/", outside: false });
  assert.deepEqual(make().link("https://site.test/x"), { href: "https://site.test/x", outside: false });
  assert.deepEqual(make().link("https://other.test/x"), { href: "https://other.test/x", outside: true });
});
