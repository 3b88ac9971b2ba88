// What the style sheet has to know of the whole list of the inbox: which rows are selected, and whether any are shown. It is
// written to few elements: with :has() over the list a change of one row would compute the styles of all.

/**
 * @param {HTMLElement} inbox
 * @param {AbortSignal} signal aborted when the inbox is removed
 * @param {import("./notifications.js").Page} page
 * @param {typeof import("./inbox_rows.js")} inbox_rows
 */
export function connectState(inbox, signal, { rows: { findBeside } }, inbox_rows) {
  /** The checkbox that was clicked last, where a range begins. */
  let lastBox = /** @type {HTMLInputElement|null} */ (null);
  // Not searched for again: the list between them may be long.
  const [toolbars, tools, empty, limited, counts] = [
    ".notifications-toolbar",
    ".notifications-toolbar, .notifications-unfilter",
    ".notifications-empty",
    "[data-total], .notifications-toolbar :is([data-snooze], [value=unread])",
    "[data-selected]",
  ].map((selector) => /** @type {HTMLElement[]} */ ([...inbox.querySelectorAll(selector)]));
  /** Whether all that the list has on all of its pages is selected. */
  let isAll = Boolean(inbox.querySelector("[data-all]"));
  /** The rows whose boxes are checked. To ask each box again costs more than what a verb changes. */
  const selected = new Set(/** @type {HTMLElement[]} */ ([]));
  const observer = new MutationObserver(update);
  observer.observe(inbox, { subtree: true, childList: true, attributeFilter: ["hidden", "data-unread"] });
  inbox.addEventListener("click", handleClick, { signal });
  signal.addEventListener("abort", () => observer.disconnect());
  document.querySelector("notifications-toasts")?.toggleAttribute("data-lifted", true);
  const checked = inbox_rows.findBoxes(inbox).filter((box) => box.checked);
  select(checked, true);
  return { getSelectedRows, select };

  /** Return the rows that are shown and whose boxes are checked. */
  function getSelectedRows() {
    return selected.size ? inbox_rows.findRows(inbox).filter((row) => selected.has(row)) : [];
  }

  /**
   * @param {HTMLInputElement[]} boxes
   * @param {boolean} isSelected
   */
  function select(boxes, isSelected) {
    for (const box of boxes) {
      const row = /** @type {HTMLElement} */ (box.closest("li"));
      box.checked = isSelected;
      selected[isSelected ? "add" : "delete"](row);
    }
    update();
  }

  /** @param {MouseEvent} event */
  function handleClick(event) {
    const clicked = /** @type {HTMLInputElement} */ (event.target);
    const link = /** @type {HTMLElement|null} */ (clicked.closest("[data-check]"));
    if (link) {
      event.preventDefault();
      const { check } = link.dataset;
      const hadFocus = link === document.activeElement;
      isAll = check === "filter";
      select(inbox_rows.findBoxes(inbox), check !== "none");
      const next = inbox.querySelector(`[data-check=${check === "none" ? "all" : "none"}]`);
      if (hadFocus && !link.checkVisibility()) /** @type {HTMLElement|null} */ (next)?.focus();
    }
    if (clicked.type !== "checkbox") return;
    isAll = false;
    const boxes = event.shiftKey ? inbox_rows.findBoxes(inbox) : [clicked];
    const [from, to] = [lastBox ?? clicked, clicked].map((box) => boxes.indexOf(box)).sort((a, b) => a - b);
    select(boxes.slice(Math.max(from, 0), to + 1), clicked.checked);
    lastBox = clicked;
  }

  /** Show which parts of the page have something to show, and those that act on a selection. */
  function update() {
    let hasRows = false;
    for (const section of inbox_rows.findSections(inbox)) {
      section.hidden = !findBeside(section, null);
      hasRows ||= !section.hidden;
    }
    for (const part of tools) part.hidden = !hasRows && !part.querySelector(".notifications-news");
    for (const part of empty)
      part.hidden = hasRows || Boolean(inbox.querySelector("[data-end]:not([hidden])"));
    inbox.parentElement?.toggleAttribute("data-empty", !hasRows);
    const rows = getSelectedRows();
    isAll &&= rows.length > 0;
    const isUnread = isAll || rows.some((row) => row.hasAttribute("data-unread"));
    const hasGroups = rows.some(inbox_rows.isGroup);
    for (const toolbar of toolbars) {
      toolbar.toggleAttribute("data-selecting", rows.length > 0);
      toolbar.toggleAttribute("data-selecting-unread", isUnread);
      toolbar.toggleAttribute("data-all", isAll);
    }
    let count = inbox_rows.countNotifications(rows);
    for (const part of limited) {
      const { total } = part.dataset;
      part.hidden = isAll || (hasGroups && !total); // What can be done with all, and with a group, is less.
      if (isAll) count = total ?? count;
    }
    for (const part of counts) {
      const text = rows.length ? `${part.dataset.selected?.replace("{count}", count)}` : "";
      if (part.textContent !== text) part.textContent = text;
    }
    observer.takeRecords(); // Of these changes.
  }
}
