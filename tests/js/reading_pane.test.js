import assert from "node:assert/strict";
import { test } from "node:test";
import { findRow, isForPane } from "../../notifications/static/notifications/reading_pane.js";

/** Return rows of a list, the newest first, of which none has the focus. */
const makeRows = (...raised) =>
  raised.map((number) => ({
    dataset: { raised: String(number) },
    isConnected: true,
    hidden: false,
    contains: () => false,
  }));
/** Return what the pane gets of a list. */
const makeList = (rows) => ({
  getShown: () => rows.filter((row) => !row.hidden),
  findRemaining: ([changed]) =>
    rows.slice(rows.indexOf(changed) + 1).find((row) => !row.hidden) ??
    rows.slice(0, rows.indexOf(changed)).findLast((row) => !row.hidden),
});

test("the row that has the focus is shown first, or the first of the list", () => {
  const rows = makeRows(9, 8, 7);
  assert.equal(findRow(makeList(rows), undefined, null), rows[0]);
  rows[1].contains = (element) => element === "title";
  assert.equal(findRow(makeList(rows), undefined, "title"), rows[1]);
  assert.equal(findRow(makeList([]), undefined, null), undefined);
});

test("the row that is shown stays while it is in the list", () => {
  const rows = makeRows(9, 8, 7);
  assert.equal(findRow(makeList(rows), rows[2], null), rows[2]);
});

test("the next row takes the place of one that is done, and the last one that of the last", () => {
  const rows = makeRows(9, 8, 7, 6);
  const [, done, next, last] = rows;
  done.hidden = true;
  assert.equal(findRow(makeList(rows), done, null), next);
  last.hidden = true;
  assert.equal(findRow(makeList(rows), last, null), next);
});

test("in a list that was loaded again, the row at its position takes its place", () => {
  const [done] = makeRows(8);
  done.isConnected = false;
  const rows = makeRows(9, 7, 6);
  assert.equal(findRow(makeList(rows), done, null), rows[1]);
});

test("when a group is closed, its row takes the place of the one in it", () => {
  const [member] = makeRows(5);
  member.isConnected = false;
  const rows = makeRows(9, 7, 4);
  rows[1].contains = (element) => element === "title of the group";
  assert.equal(findRow(makeList(rows), member, "title of the group"), rows[1]);
});

test("a click on a row or its title is for the pane, and Enter on a title that leads to the same notification", () => {
  /** Return a click on what is inside of a control: a link to this path, or a button. */
  const click = ({ path, isTitle = true, isButton = false, ...keys } = {}) => ({
    target: {
      closest: (selector) => {
        if (selector !== "a") return isButton ? {} : null;
        return path === undefined ? null : { pathname: path, matches: () => isTitle };
      },
    },
    ...keys,
  });
  assert.ok(isForPane(click(), "5"));
  assert.ok(isForPane(click({ path: "/n/5/" }), "5"));
  assert.ok(isForPane(click({ path: "/reports/1/", detail: 1 }), "5"));
  assert.ok(!isForPane(click({ path: "/reports/1/", detail: 0 }), "5"));
  assert.ok(!isForPane(click({ path: "/n/5/", isTitle: false }), "5"));
  assert.ok(!isForPane(click({ isButton: true }), "5"));
  assert.ok(!isForPane(click({ path: "/n/5/", ctrlKey: true }), "5"));
  assert.ok(!isForPane(click({ path: "/n/5/", detail: 1, shiftKey: true }), "5"));
  assert.ok(!isForPane(click({ metaKey: true }), "5"));
});
