import assert from "node:assert/strict";
import { test } from "node:test";
import { nameRows } from "../../notifications/static/notifications/inbox_rows.js";

/** Return a row whose checkbox has this value: of a notification, or of a group. */
function makeRow(name, value, raised) {
  const isGroup = name === "groups";
  return {
    dataset: { raised: String(raised), ...(isGroup ? { group: value, named: "n" } : { id: value }) },
    querySelector: () => ({ name, value }),
  };
}

test("rows that arrived after the page was loaded are within what a form changes", () => {
  const body = new FormData();
  body.set("up_to", "5");
  body.append("id", "checked");
  nameRows(
    body,
    [makeRow("id", "new", 8), makeRow("id", "old", 3), makeRow("groups", "9.n:A", 9)],
    "archive",
  );
  assert.deepEqual(body.getAll("id"), ["new", "old"]);
  assert.deepEqual(body.getAll("groups"), ["9.n:A"]);
  assert.equal(body.get("up_to"), "8"); // A group has its own position.
});

test("the position of the page stays where no row is newer", () => {
  const body = new FormData();
  body.set("up_to", "5");
  nameRows(body, [makeRow("id", "old", 3)], "read");
  assert.equal(body.get("up_to"), "5");
  nameRows(body, [makeRow("groups", "9.n:A", 9)], "read");
  assert.equal(body.get("up_to"), "5");
});
