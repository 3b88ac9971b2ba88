// <notifications-inbox>: keeps a list that the server rendered up to date, without moving its rows.

/**
 * @typedef {import("./client.js").Change} Change
 * @typedef {import("./notifications.js").Page} Page
 */

/** @param {Page} page */
export function define({ client, localization, dom, markRead, markSeen, inboxUrl }) {
  class Inbox extends HTMLElement {
    /** @type {(() => void)|null} */
    #removeListener = null;
    /** The greatest `raised` of the rendered list. */
    #newest = 0;
    /** @param {Event} event */
    #handleClick = ({ target }) => {
      const title = /** @type {Element} */ (target).closest("a.notifications-title");
      const row = /** @type {HTMLElement|null|undefined} */ (title?.closest("[data-unread]"));
      if (row) markRead([toItem(row)]).catch(() => undefined); // The page leaves for the notification's URL.
    };
    /**
     * Mark one notification as read in place. Its form goes when the change arrives, or at once where it is late.
     * @param {SubmitEvent} event
     */
    #handleSubmit = async (event) => {
      const row = /** @type {HTMLElement|null} */ (
        /** @type {Element} */ (event.target).closest("[data-unread]")
      );
      if (!row) return;
      event.preventDefault();
      const hadFocus = row.contains(document.activeElement);
      try {
        await markRead([toItem(row)]);
        const title = /** @type {HTMLElement|null} */ (row.querySelector("a.notifications-title"));
        // The change may have come first and removed the button, which had the focus.
        if (hadFocus) title?.focus({ preventScroll: true });
        dom.updateUnreadMark(row, { read_at: "", archived_at: null }, localization);
      } catch {
        let note = row.querySelector(".notifications-note");
        note ??= row.appendChild(dom.createElement("p", "notifications-note"));
        note.role = "alert";
        note.textContent = localization.text("unsaved");
      }
    };

    /** Mark what the list shows as seen, once the page is visible: it may have been opened in another tab. */
    #markShownSeen = () => {
      if (document.visibilityState !== "visible") return;
      const rows = /** @type {NodeListOf<HTMLElement>} */ (this.querySelectorAll("[data-raised]"));
      void markSeen(Math.max(0, ...[...rows].map((row) => Number(row.dataset.raised))));
    };

    connectedCallback() {
      if (this.#removeListener) return;
      this.#newest = Number(this.getAttribute("newest") ?? 0);
      this.#updateProgressNote(0);
      this.addEventListener("click", this.#handleClick);
      this.addEventListener("submit", this.#handleSubmit);
      this.#removeListener = client.on("change", (change) => this.#handleChange(change));
      document.addEventListener("visibilitychange", this.#markShownSeen);
      this.#markShownSeen();
    }

    disconnectedCallback() {
      this.removeEventListener("click", this.#handleClick);
      document.removeEventListener("visibilitychange", this.#markShownSeen);
      this.removeEventListener("submit", this.#handleSubmit);
      this.#removeListener?.();
      this.#removeListener = null;
    }

    /** @param {Change} change */
    #handleChange(change) {
      for (const item of change.notifications) {
        const row = dom.findRow(this, item.id);
        if (row) dom.updateUnreadMark(row, item, localization);
      }
      const newer = [...client.stream.notifications.values()].filter(
        (item) => item.raised > this.#newest && item.archived_at === null,
      );
      if (newer.length) this.#offerNewer(newer.length);
      this.#markShownSeen();
      this.#updateProgressNote(newer.filter((item) => item.read_at === null).length);
    }

    /**
     * Say that marking as read in the background has ended: all that is unread is newer than this page.
     * @param {number} newerUnread
     */
    #updateProgressNote(newerUnread) {
      const note = /** @type {HTMLElement|null} */ (this.querySelector("[data-done]"));
      if (note && (client.unread ?? Infinity) <= newerUnread) note.textContent = note.dataset.done ?? "";
    }

    /** @param {number} count */
    #offerNewer(count) {
      let link = /** @type {HTMLAnchorElement|null} */ (this.querySelector(".notifications-news"));
      if (!link) {
        link = dom.createElement("a", "notifications-news");
        link.href = inboxUrl;
        this.prepend(link);
      }
      link.textContent = localization.text("new", { count: localization.formatNumber(count) });
    }
  }

  /** @param {HTMLElement} row */
  function toItem({ dataset }) {
    return { id: dataset.id ?? "", raised: Number(dataset.raised) };
  }

  if (!customElements.get("notifications-inbox")) customElements.define("notifications-inbox", Inbox);
}
