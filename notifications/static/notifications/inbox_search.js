// The search and the filters of the inbox: the list follows what is typed and chosen, without a new page.

/** @typedef {import("./notifications.js").Page} Page */

/** How long nothing is typed before the list is loaded. */
const SEARCH_DELAY_MS = 250;
/** Of the last search: the responses to earlier ones are dropped. It goes on where another list takes the place of its own. */
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
    clock.clearTimeout(searchTimer);
    searchTimer = clock.setTimeout(load, event.type === "input" ? SEARCH_DELAY_MS : 0);
  }

  async function load() {
    const url = new URL(form.action);
    for (const [name, value] of new FormData(form)) if (value) url.searchParams.append(name, String(value));
    const timer = searchTimer;
    inbox.ariaBusy = "true";
    try {
      const list = await loadPage(url);
      const shown = document.querySelector(inbox.localName);
      if (timer !== searchTimer || !shown) return;
      history.replaceState(null, "", url);
      // The page with the list says which view it is, and of which categories.
      for (const selector of [".notifications-views", "[popovertarget=notifications-categories]"]) {
        const part = list.parentElement?.querySelector(selector);
        if (part) document.querySelector(selector)?.replaceChildren(...part.childNodes);
      }
      shown.replaceWith(list);
    } catch {
      // The browser says what is wrong.
      if (timer === searchTimer) location.assign(url);
    }
  }
}
