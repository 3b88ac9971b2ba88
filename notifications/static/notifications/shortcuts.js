// Keyboard shortcuts of the inbox page: j and k move between rows, the other keys act on the selected rows or on the row
// that has the focus. They act only while the focus is not in a field, and a dialog lists them and turns them off.

/**
 * @typedef {import("./notifications.js").Page} Page
 * @typedef {import("./notifications.js").Verb} Verb
 * @typedef {{getSelectedRows: () => HTMLElement[],
 *   change: (verb: Verb, rows: HTMLElement[]) => Promise<void>}} Rows
 */

const IS_OFF = "notifications.v1:shortcuts-off";
const FIELDS = "input:not([type=checkbox]), select, textarea, [contenteditable], dialog, [popover]";

/**
 * Listen to keys for an inbox, and show the parts of its page that need a script.
 * @param {HTMLElement} inbox
 * @param {Page} page
 * @param {AbortSignal} signal aborted when the inbox is removed
 * @param {Rows} rows
 */
export function connectShortcuts(inbox, page, signal, { getSelectedRows, change }) {
  // They are in the heading of the page, which stays when another list takes the place of the inbox.
  const root = inbox.parentElement;
  const dialog = /** @type {HTMLDialogElement|null} */ (root?.querySelector("dialog"));
  const button = /** @type {HTMLElement|null} */ (root?.querySelector("[data-shortcuts]"));
  const isOn = /** @type {HTMLInputElement|null|undefined} */ (dialog?.querySelector("[type=checkbox]"));
  if (!dialog || !button || !isOn) return;
  button.hidden = false;
  button.addEventListener("click", () => dialog.showModal(), { signal });
  isOn.checked = !page.readStored(IS_OFF);
  isOn.addEventListener("change", () => page.store(IS_OFF, isOn.checked ? 0 : 1), { signal });
  document.addEventListener("keydown", handleKey, { signal });

  /** @type {Record<string, (row: HTMLElement|null, rows: HTMLElement[]) => void>} */
  const actions = {
    j: (row) => move(row, 1),
    k: (row) => move(row, -1),
    x: (row) => /** @type {HTMLElement|null|undefined} */ (row?.querySelector("[name=id]"))?.click(),
    Enter: (row) =>
      /** @type {HTMLElement|null|undefined} */ (
        row?.querySelector("a.notifications-title, [rel=next]")
      )?.click(),
    e: (row, rows) => act("archive", row, rows),
    u: (row, rows) => act("unread", row, rows),
    h: (row, rows) =>
      /** @type {HTMLElement|null|undefined} */ (
        rows[0] === row ? row?.querySelector("[name=until]") : inbox.querySelector("[data-snooze]")
      )?.click(),
    I: (row, rows) => act("read", row, rows),
    "?": () => dialog.showModal(),
  };

  /**
   * Move between the rows that are shown, and the links to older rows of groups.
   * @param {HTMLElement|null} row
   * @param {number} step
   */
  function move(row, step) {
    const rows = [.../** @type {NodeListOf<HTMLElement>} */ (inbox.querySelectorAll("li:not([hidden])"))];
    const next = row ? rows[rows.indexOf(row) + step] : rows[0];
    if (!next) return;
    next.tabIndex = -1;
    next.focus();
  }

  /**
   * Change rows, or by its own button the group that has the focus.
   * @param {Verb} verb
   * @param {HTMLElement|null} row that has the focus
   * @param {HTMLElement[]} rows
   */
  function act(verb, row, rows) {
    const button = row && rows[0] === row && row.querySelector(`[name=group][value^="${verb}."]`);
    if (button) /** @type {HTMLElement} */ (button).click();
    else
      void change(
        verb,
        rows.filter((row) => row.dataset.id),
      );
  }

  /** @param {KeyboardEvent} event */
  function handleKey(event) {
    const target = /** @type {Element} */ (event.target);
    const action = actions[event.key];
    if (!action || !isOn?.checked || event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.defaultPrevented || target.closest(FIELDS)) return;
    const isInPane = target.closest(".notifications-pane");
    const row = /** @type {HTMLElement|null} */ (
      isInPane ? inbox.querySelector("[aria-current]") : target.closest("notifications-inbox li")
    );
    // A link, a button or a checkbox that has the focus is activated by Enter itself.
    if (event.key === "Enter" && target !== row) return;
    const selected = getSelectedRows();
    event.preventDefault();
    action(row, selected.length ? selected : row ? [row] : []);
  }
}
