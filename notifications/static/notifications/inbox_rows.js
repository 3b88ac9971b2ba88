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
 * Return the checkboxes of the rows that are shown. Groups have none.
 * @param {HTMLElement} inbox
 */
export function findBoxes(inbox) {
  const boxes = findRows(inbox).map((row) => row.querySelector("[name=id]"));
  return /** @type {HTMLInputElement[]} */ (boxes.filter(Boolean));
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
