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
  const form = /** @type {HTMLFormElement} */ (inbox.parentElement?.querySelector("[role=search]"));
  if (!form) return;
  form.addEventListener("input", search, { signal });
  form.addEventListener("submit", search, { signal });

  /** @param {Event} event */
  function search(event) {
    event.preventDefault();
    const names = findTexts("[name=category]:checked");
    const isExcept = findTexts("[name=except]:checked").length && names.length;
    /** @type {NodeListOf<HTMLElement>} */
    const buttons = form.querySelectorAll("[data-except]");
    for (const button of buttons) {
      const shown = names.join(", ") || button.dataset.none;
      button.textContent = `${isExcept ? button.dataset.except?.replace("{names}", `${shown}`) : shown}`;
    }
    clock.clearTimeout(searchTimer);
    searchTimer = clock.setTimeout(load, event.type === "input" ? SEARCH_DELAY_MS : 0);
  }

  /** @param {string} selector of checkboxes */
  function findTexts(selector) {
    /** @type {NodeListOf<HTMLInputElement>} */
    const boxes = form.querySelectorAll(selector);
    return [...boxes].map((box) => box.nextElementSibling?.textContent);
  }

  async function load() {
    const url = new URL(form.action);
    for (const [name, value] of new FormData(form)) if (value) url.searchParams.append(name, String(value));
    lastSearch += 1;
    const number = lastSearch;
    inbox.ariaBusy = "true";
    try {
      const list = await loadPage(url);
      const shown = document.querySelector(inbox.localName);
      if (number !== lastSearch || !shown) return;
      history.replaceState(null, "", url);
      // The page with the list says which view it is.
      const views = /** @type {Element} */ (list.parentElement?.querySelector(".notifications-views"));
      document.querySelector(".notifications-views")?.replaceWith(views);
      shown.replaceWith(list);
    } catch {
      // The browser says what is wrong.
      if (number === lastSearch) location.assign(url);
    }
  }
}
