// The verbs of a row without a pointer that can hover: a sheet at the lower edge of the window, with their icons and words.

/**
 * Show the verbs beside a button in a sheet, until one is pressed, or the sheet is left: by Escape, by its button, or by a
 * press outside. The browser returns the focus to the button. They stay in their row, and so in the form of the list.
 * @param {HTMLElement} opener
 * @param {import("./notifications.js").Page} page
 */
export function openMenu(opener, { dom, localization }) {
  const row = /** @type {HTMLElement} */ (opener.closest("li"));
  const sheet = dom.createElement("dialog", "notifications-sheet");
  const close = dom.createElement("button", "notifications-close");
  const verbs = [...row.querySelectorAll(".notifications-verb")].filter((verb) => verb !== opener);
  sheet.ariaLabel = row.querySelector(".notifications-title")?.firstChild?.textContent ?? null;
  close.ariaLabel = localization.text("dismiss");
  sheet.append(...verbs, close);
  opener.before(sheet);
  // In the inbox: the verb that snoozes leads to all times.
  const until = /** @type {HTMLButtonElement|null} */ (sheet.querySelector("[name=until]"));
  if (until) {
    const snooze = /** @type {HTMLButtonElement} */ (until.cloneNode(true));
    snooze.type = "button";
    snooze.dataset.snooze = row.dataset.id;
    snooze.title = `${until.form?.querySelector("dialog[id]")?.ariaLabel}…`;
    snooze.ariaLabel = snooze.title; // The sheet has the title of the row.
    until.replaceWith(snooze);
  }
  // Each press ends it: on a verb, on the button, and beside it, where the sheet is the target.
  sheet.addEventListener("click", () => sheet.close());
  sheet.addEventListener("close", () => {
    sheet.remove();
    opener.before(...verbs);
  });
  opener.focus(); // Not each browser focuses a button that is pressed.
  sheet.showModal();
}
