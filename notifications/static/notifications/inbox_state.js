// What the style sheet has to know of the whole list of the inbox: which rows are selected, and whether any are shown. It is
// written to few elements: with :has() over the list a change of one row would compute the styles of all.

/**
 * @param {HTMLElement} inbox
 * @param {AbortSignal} signal aborted when the inbox is removed
 */
export function connectState(inbox, signal) {
  /** The checkbox that was clicked last, where a range begins. */
  let lastBox = /** @type {HTMLInputElement|null} */ (null);
  /** Whether all that the list has on all of its pages is selected. */
  let isAll = Boolean(inbox.querySelector("[data-all]"));
  const observer = new MutationObserver(update);
  observer.observe(inbox, { subtree: true, childList: true, attributeFilter: ["hidden", "data-unread"] });
  inbox.addEventListener("click", handleClick, { signal });
  signal.addEventListener("abort", () => {
    observer.disconnect();
    liftToasts(false);
  });
  update();
  return { getSelectedRows, select };

  /**
   * Return the checkboxes of the rows that are shown.
   * @param {string} [state] a selector of those in this state
   */
  function getBoxes(state = "") {
    /** @type {NodeListOf<HTMLInputElement>} */
    const boxes = inbox.querySelectorAll(`li:not([hidden]) [name=id]${state}`);
    return [...boxes];
  }

  /** Return the rows whose boxes are checked. */
  function getSelectedRows() {
    return getBoxes(":checked").map((box) => /** @type {HTMLElement} */ (box.closest("li")));
  }

  /**
   * @param {HTMLInputElement[]} boxes
   * @param {boolean} isSelected
   */
  function select(boxes, isSelected) {
    for (const box of boxes) box.checked = isSelected;
    update();
  }

  /** @param {MouseEvent} event */
  function handleClick(event) {
    const clicked = /** @type {HTMLInputElement} */ (event.target);
    const link = /** @type {HTMLElement|null} */ (clicked.closest("[data-check]"));
    if (link) {
      event.preventDefault();
      isAll = link.dataset.check === "filter";
      select(getBoxes(), link.dataset.check !== "none");
    }
    if (clicked.name !== "id") return; // Only checkboxes have this name.
    isAll = false;
    const boxes = getBoxes();
    const [from, to] = [lastBox ?? clicked, clicked].map((box) => boxes.indexOf(box)).sort((a, b) => a - b);
    select(event.shiftKey ? boxes.slice(from, to + 1) : [], clicked.checked);
    lastBox = clicked;
  }

  /** Show which parts of the page have something to show, and those that act on a selection. */
  function update() {
    let hasRows = false;
    for (const section of inbox.querySelectorAll("section")) {
      section.hidden = !section.querySelector("li:not([hidden])");
      hasRows ||= !section.hidden;
    }
    for (const part of findParts(".notifications-toolbar, .notifications-unfilter"))
      part.hidden = !hasRows && !part.querySelector(".notifications-news");
    for (const part of findParts(".notifications-empty"))
      part.hidden = hasRows || Boolean(inbox.querySelector("[data-end]:not([hidden])"));
    inbox.parentElement?.toggleAttribute("data-empty", !hasRows);
    const selected = getSelectedRows();
    isAll &&= selected.length > 0;
    const isUnread = isAll || selected.some((row) => row.hasAttribute("data-unread"));
    for (const toolbar of findParts(".notifications-toolbar")) {
      toolbar.toggleAttribute("data-selecting", selected.length > 0);
      toolbar.toggleAttribute("data-selecting-unread", isUnread);
      toolbar.toggleAttribute("data-all", isAll);
    }
    let count = `${selected.length}`;
    for (const part of findParts("[data-total], [data-snooze]")) {
      part.hidden = isAll;
      if (isAll) count = part.dataset.total ?? count;
    }
    for (const part of findParts("[data-selected]"))
      part.textContent = `${part.dataset.selected?.replace("{count}", count)}`;
    liftToasts(selected.length > 0 || Boolean(inbox.querySelector(".notifications-floating:not(:empty)")));
    observer.takeRecords(); // Of these changes.
  }

  /**
   * @param {string} selector
   * @returns {NodeListOf<HTMLElement>}
   */
  function findParts(selector) {
    return inbox.querySelectorAll(selector);
  }
}

/**
 * Show toasts above the bar of a selection, and what has changed.
 * @param {boolean} isLifted
 */
function liftToasts(isLifted) {
  document.querySelector("notifications-toasts")?.toggleAttribute("data-lifted", isLifted);
}
