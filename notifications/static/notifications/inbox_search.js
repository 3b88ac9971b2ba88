// The search and the filters of the inbox: the list follows what is typed and chosen, without a new page.

/** @typedef {import("./notifications.js").Page} Page */

/** How long nothing is typed before the list is loaded. */
const SEARCH_DELAY_MS = 250;
/** The number of the last search: the responses to earlier ones are dropped. */
let lastSearch = 0;
/** It goes on where another list is put in the place of the one that started it. */
let searchTimer = /** @type {any} */ (null);

/**
 * Load the list when something is typed or chosen in the form beside the inbox, and put it in the place of the inbox.
 * @param {HTMLElement} inbox
 * @param {Page} page
 * @param {AbortSignal} signal
 * @param {(url: URL) => Promise<HTMLElement>} loadPage
 */
export function connectSearch(inbox, { clock }, signal, loadPage) {
  const form = /** @type {HTMLFormElement|null|undefined} */ (
    inbox.parentElement?.querySelector("[role=search]")
  );
  if (!form) return;
  form.addEventListener("input", search, { signal });
  form.addEventListener("submit", search, { signal });

  /** @param {Event} event */
  function search(event) {
    event.preventDefault();
    clock.clearTimeout(searchTimer);
    searchTimer = clock.setTimeout(load, event.type === "input" ? SEARCH_DELAY_MS : 0);
  }

  async function load() {
    const url = new URL(form?.action ?? "");
    for (const [name, value] of new FormData(form ?? undefined))
      if (value) url.searchParams.set(name, String(value));
    lastSearch += 1;
    const number = lastSearch;
    inbox.ariaBusy = "true";
    try {
      const list = await loadPage(url);
      const shown = document.querySelector(inbox.localName);
      if (number !== lastSearch || !shown) return;
      history.replaceState(null, "", url);
      shown.replaceWith(list);
    } catch {
      // The browser says what is wrong.
      if (number === lastSearch) location.assign(url);
    }
  }
}
