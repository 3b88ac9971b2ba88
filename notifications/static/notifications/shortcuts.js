// Keys of lists of notifications, loaded with the first one that is pressed. Arrows move between the rows of the open bell and of
// the inbox. In the inbox j and k do so too, and others act on the selected rows or on the row that has the focus. They act only
// while the focus is not in a field, and a dialog lists those of letters and turns them off.

/**
 * @typedef {import("./notifications.js").Page} Page
 * @typedef {import("./notifications.js").Verb} Verb
 */

const IS_OFF = "notifications.v1:shortcuts-off";
const FIELDS = "input:not([type=checkbox]), select, textarea, [contenteditable], dialog, [popover]";

/**
 * Act on the press of a key, or of the button that shows the dialog.
 * @param {Event} event
 * @param {Page} page
 */
export function handleEvent(event, page) {
  if (event.type === "click") showKeys();
  else handleKey(/** @type {KeyboardEvent} */ (event));

  function showKeys() {
    const isOn = /** @type {HTMLInputElement|null} */ (document.querySelector("[data-shortcuts-on]"));
    if (!isOn) return;
    isOn.checked = !page.readStored(IS_OFF);
    isOn.onchange = () => page.store(IS_OFF, isOn.checked ? 0 : 1);
    isOn.closest("dialog")?.showModal();
  }

  /** @param {KeyboardEvent} event */
  function handleKey(event) {
    // Where the focus is now: those before it may have waited for this module.
    const target = /** @type {HTMLElement} */ (document.activeElement ?? document.body);
    if (event.ctrlKey || event.metaKey || event.altKey || event.defaultPrevented) return;
    // It has left a field or a popover, and clears nothing that was selected since.
    const pressedIn = /** @type {HTMLElement} */ (event.target);
    if (event.key === "Escape" && pressedIn !== target && pressedIn.closest(FIELDS)) return;
    const panel = /** @type {HTMLElement|null} */ (
      document.querySelector(".notifications-panel:popover-open")
    );
    if (panel ? handlePanelKey(panel, target, event.key) : handleInboxKey(target, event.key))
      event.preventDefault();
  }

  /**
   * Act on a key while the bell is open. Return whether there was something to do.
   * @param {HTMLElement} panel
   * @param {HTMLElement} target
   * @param {string} key
   */
  function handlePanelKey(panel, target, key) {
    if (target.closest("input, textarea, select, dialog")) return false;
    if (key === "z" && !page.readStored(IS_OFF)) return press(panel, ".notifications-done button");
    const row = panel.contains(target) ? target.closest("li") : null;
    const next = findNext(panel, row, key);
    /** @type {HTMLElement|null|undefined} */ (next?.querySelector(".notifications-done button, a"))?.focus();
    return Boolean(next);
  }

  /**
   * @param {HTMLElement} target
   * @param {string} key
   */
  function handleInboxKey(target, key) {
    const inbox = /** @type {HTMLElement|null} */ (document.querySelector("notifications-inbox"));
    if (!inbox || !page.inbox) return false;
    const field = /** @type {HTMLInputElement} */ (target);
    if (field.matches(".notifications-search")) {
      const current = /** @type {HTMLElement|null} */ (inbox.querySelector("li[aria-current]"));
      const isLeft = key === "ArrowDown" || (key === "Escape" && !field.value); // Escape clears it first.
      return isLeft && focusRow(current ?? findNext(inbox, null, "ArrowDown"));
    }
    if (target.closest(FIELDS)) return false;
    const own = /** @type {HTMLElement|null} */ (target.closest("notifications-inbox li"));
    const next = own && findNext(inbox, own, key);
    if (next) return focusRow(next);
    if (key === "Escape") return press(inbox, "[data-selecting] [data-check=none]");
    if (page.readStored(IS_OFF)) return false;
    const isInPane = target.closest(".notifications-pane");
    const row = isInPane ? /** @type {HTMLElement|null} */ (inbox.querySelector("[aria-current]")) : own;
    switch (key) {
      case "j":
      case "k":
        return focusRow(findNext(inbox, row, key === "j" ? "ArrowDown" : "ArrowUp"));
      case "x":
        return press(row, ":not([data-question]) > .notifications-select > input");
      case "Enter": // A link, a button or a checkbox that has the focus is activated by it itself.
        return target === row && press(row, "a.notifications-title, [rel=next]");
      case "e":
        return act("archive", row);
      case "u":
        return act("unread", row);
      case "I":
        return act("read", row);
      case "h":
        return page.inbox.getSelectedRows().length
          ? press(inbox, "[data-snooze]:not([hidden])")
          : press(row, "[name=until]");
      case "z":
        // Not the change before, whose message is shown until the last one is saved, and a moment longer.
        // One that was not saved has nothing to undo: its button tries it again.
        void page.inbox
          .getLastSave()
          .then(() =>
            setTimeout(press, 0, inbox.parentElement, ".notifications-message:not([data-unsaved]) button"),
          );
        return true;
      case "/": {
        const search = /** @type {HTMLInputElement|null} */ (document.querySelector(".notifications-search"));
        search?.select();
        return Boolean(search);
      }
      case "?":
        showKeys();
        return true;
    }
    return false;
  }

  /**
   * Return the row below or above one, or the first one of the list, if the key is that of an arrow.
   * @param {HTMLElement} list
   * @param {HTMLElement|null} row
   * @param {string} key
   * @returns {HTMLElement|null}
   */
  function findNext(list, row, key) {
    /** @type {Record<string, "nextNode"|"previousNode">} */
    const sides = { ArrowDown: "nextNode", ArrowUp: "previousNode" };
    const side = sides[key];
    if (!side) return null;
    return page.rows.findBeside(list, row, side);
  }

  /** @param {HTMLElement|null|undefined} row */
  function focusRow(row) {
    if (!row) return false;
    row.tabIndex = -1;
    row.focus();
    return true;
  }

  /**
   * Press what is in a part of the page.
   * @param {Element|null} part
   * @param {string} selector
   */
  function press(part, selector) {
    const control = /** @type {HTMLElement|null|undefined} */ (part?.querySelector(selector));
    control?.click();
    return Boolean(control);
  }

  /**
   * Change what is selected, or else the row or the group that has the focus.
   * @param {Verb} verb
   * @param {HTMLElement|null} row that has the focus
   */
  function act(verb, row) {
    if (page.inbox?.getSelectedRows().length)
      return press(document.body, `.notifications-for-selection [value=${verb}]:not([hidden])`);
    if (press(row, `[name=group][value^="${verb}."]`)) return true;
    if (row?.dataset.id) void page.inbox?.change(verb, [row]);
    return Boolean(row?.dataset.id);
  }
}
