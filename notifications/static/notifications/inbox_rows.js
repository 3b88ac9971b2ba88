// The rows of the inbox, in lists of as many as a page has: found by their places, because a selector would be matched with each
// element of a long inbox, and added so that those that are far from the window cost nothing.

/** What the style sheet makes of a row. */
const ROW_PX = 64;

/**
 * Return the sections of the inbox.
 * @param {HTMLElement} inbox
 */
export function findSections(inbox) {
  return listChildren(inbox.querySelector("form"), "section");
}

/**
 * Return the rows that are shown, and those of groups.
 * @param {HTMLElement} inbox
 */
export function findRows(inbox) {
  const lists = findSections(inbox).flatMap((section) => listChildren(section, "ul"));
  return lists.flatMap((list) => listChildren(list, "li")).filter((row) => !row.hasAttribute("hidden"));
}

/**
 * Return the children with a name. After each change in one of them `children` would be computed again.
 * @param {Element|null} parent
 * @param {string} name
 */
function listChildren(parent, name) {
  const children = [];
  for (let child = parent?.firstElementChild; child; child = child.nextElementSibling)
    if (child.localName === name) children.push(/** @type {HTMLElement} */ (child));
  return children;
}

/**
 * Return the checkboxes of the rows that are shown.
 * @param {HTMLElement} inbox
 */
export function findBoxes(inbox) {
  return /** @type {HTMLInputElement[]} */ (findRows(inbox).map(findBox).filter(Boolean));
}

/**
 * Return the checkbox of a row. An open question, which no verb changes, and a link to older ones have none.
 * @param {HTMLElement} row
 */
export function findBox(row) {
  return /** @type {HTMLInputElement|null} */ (
    row.querySelector(":not([data-question]) > .notifications-select > input")
  );
}

/** @param {HTMLElement} row */
export function toItem({ dataset }) {
  return { id: dataset.id ?? dataset.named ?? "", raised: Number(dataset.raised) };
}

/** @param {HTMLElement} row */
export function isGroup({ dataset }) {
  return dataset.group !== undefined;
}

/**
 * Return how many notifications rows stand for, such as "106", or "1100+" if there are more. Those that are shown of a group
 * count with it.
 * @param {HTMLElement[]} rows
 */
export function countNotifications(rows) {
  const groups = new Set(rows.filter(isGroup).map(({ dataset }) => dataset.group));
  const counts = rows
    .filter(({ dataset }) => !groups.has(dataset.member))
    .map(({ dataset }) => dataset.count ?? "1");
  const sum = counts.reduce((total, count) => total + Number.parseInt(count, 10), 0);
  return `${sum}${counts.some((count) => count.endsWith("+")) ? "+" : ""}`;
}

/**
 * Return a row, with those that are shown of it if it is a group.
 * @param {HTMLElement} group
 */
export function withMembers(group) {
  const rows = [group];
  if (!isGroup(group)) return rows;
  for (let next = group.nextElementSibling; next?.matches("[data-member]"); next = next.nextElementSibling)
    rows.push(/** @type {HTMLElement} */ (next));
  return rows;
}

/**
 * Name rows in a form, which has the boxes that are checked, and its position as that of the newest of them, or a group as it is
 * shown: some may have arrived since.
 * @param {FormData} body
 * @param {HTMLElement[]} rows
 * @param {string} [verb]
 */
export function nameRows(body, rows, verb = "") {
  for (const name of ["id", "groups", "group"]) body.delete(name);
  for (const box of rows.map(findBox)) if (box) body.append(box.name, box.value);
  const raised = rows.filter((row) => !isGroup(row)).map((row) => toItem(row).raised);
  body.set("up_to", `${Math.max(Number(body.get("up_to")), ...raised)}`);
  body.set("verb", verb);
}

/**
 * Add sections below the others, with the rows of a page.
 * @param {HTMLElement} inbox
 * @param {HTMLElement[]} days the first of which may be the last one that is shown
 */
export function addDays(inbox, days) {
  for (const day of days) {
    const shown = findSections(inbox).at(-1);
    const [title, shownTitle] = [day, shown].map((part) => part?.querySelector("h2")?.textContent);
    if (shown) shown.hidden = false; // Its rows may have left: what is added gets the focus at once.
    const lists = day.querySelectorAll("ul");
    for (const { style, children } of lists) {
      style.contentVisibility = "auto"; // All rows of a list together: each by itself would be part of the layout.
      style.containIntrinsicBlockSize = `auto ${ROW_PX * children.length}px`;
    }
    if (title === shownTitle) shown?.append(...lists);
    else inbox.querySelector("form")?.append(day);
  }
}
