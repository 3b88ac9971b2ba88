// Shows the page in the theme that the user has chosen, and offers the choice in the footer. A blocking script in the head:
// a module would run after the page was painted in the other theme. Django's admin keeps its choice under the same key.

(() => {
  const KEY = "theme";
  const STORE_EVENTS = ["pointerover", "focusin"];
  const root = document.documentElement;

  function readTheme() {
    try {
      return localStorage.getItem(KEY);
    } catch {
      return null;
    }
  }

  /** Without data-theme, or with "auto" as the admin writes it, the page follows the system. */
  function show(theme) {
    const isChosen = theme === "light" || theme === "dark";
    if (isChosen) root.dataset.theme = theme;
    else delete root.dataset.theme;
    for (const button of document.querySelectorAll("[data-choose-theme]"))
      button.ariaPressed = String(button.dataset.chooseTheme === (isChosen ? theme : "auto"));
  }

  function choose(theme) {
    try {
      localStorage.setItem(KEY, theme);
    } catch {
      // Storage is blocked: the choice holds for this page.
    }
    show(theme);
  }

  show(readTheme());
  document.addEventListener("DOMContentLoaded", () => {
    for (const group of document.querySelectorAll("[data-themes]")) group.hidden = false;
    for (const button of document.querySelectorAll("[data-choose-theme]"))
      button.addEventListener("click", () => choose(button.dataset.chooseTheme));
    show(readTheme());
  });
  /**
   * Store the files in the browser's cache that the first page contains and the next ones link (first_page.py), once the
   * user turns to what leads to another page: who only reads this one needs them once.
   */
  async function storeFiles({ target }) {
    const links = document.querySelector("template[data-store]");
    if (links && !target.closest?.("a, form")) return;
    for (const type of STORE_EVENTS) removeEventListener(type, storeFiles);
    if (!links) return; // Not searched for again: the page may be long.
    links.remove();
    try {
      // A touch is followed by the next page at once: keepalive lets the cache have the files for the page after that.
      const options = { priority: "low", keepalive: true };
      const store = async ({ href, src }) => {
        const response = await fetch(href || src, options);
        if (!response.ok) throw response;
        await response.arrayBuffer();
      };
      await Promise.all(Array.from(links.content.children, store));
      const expires = Date.now() + 24 * 3600 * 1000; // Later the cache may have dropped them.
      await cookieStore.set({ name: "files", value: links.dataset.store, expires, sameSite: "lax" });
    } catch {
      // A server that is away, or a browser without cookieStore: the next page contains them too.
    }
  }

  for (const type of STORE_EVENTS) addEventListener(type, storeFiles);
  // Another tab, or the admin, has changed it; the back-forward cache may hold a page that has missed that.
  addEventListener("storage", (event) => event.key === KEY && show(event.newValue));
  addEventListener("pageshow", (event) => event.persisted && show(readTheme()));
})();
