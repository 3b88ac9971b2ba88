// <notifications-inbox>: keeps a list that the server rendered up to date, without moving its rows, and sends what its
// form changes without leaving the page.

/**
 * @typedef {import("./client.js").Change} Change
 * @typedef {import("./notifications.js").Page} Page
 * @typedef {import("./notifications.js").Verb} Verb
 */

/** @type {Record<Verb, Verb>} the verb that undoes each verb */
const INVERSE_VERBS = { read: "unread", unread: "read", archive: "unarchive", unarchive: "archive" };

/** @param {Page} page */
export function define(page) {
  const { client, localization, dom } = page;

  class Inbox extends HTMLElement {
    /** @type {(() => void)[]} */
    #cleanups = [];
    /** The greatest `raised` of the rendered list. */
    #newest = 0;
    /** Says what has changed, with a button to undo it. */
    #message = dom.createElement("div", "notifications-message notifications-floating");
    /** The checkbox that was clicked last, where a range begins. */
    #lastBox = /** @type {HTMLInputElement|null} */ (null);

    connectedCallback() {
      if (this.#cleanups.length) return;
      this.#newest = Number(this.getAttribute("newest") ?? 0);
      this.#message.role = "status";
      this.append(this.#message);
      this.#updateProgressNote(0);
      this.addEventListener("click", this.#handleClick);
      this.addEventListener("submit", this.#handleSubmit);
      document.addEventListener("visibilitychange", this.#markShownSeen);
      this.#cleanups = [
        client.on("change", (change) => this.#handleChange(change)),
        client.on("state", (state) => this.#handleState(state)),
        page.defineShortcuts(this),
        () => document.removeEventListener("visibilitychange", this.#markShownSeen),
      ];
      this.#markShownSeen();
    }

    disconnectedCallback() {
      this.removeEventListener("click", this.#handleClick);
      this.removeEventListener("submit", this.#handleSubmit);
      for (const cleanup of this.#cleanups.splice(0)) cleanup();
    }

    /** @returns {HTMLElement[]} the rows that are shown */
    get rows() {
      return [.../** @type {NodeListOf<HTMLElement>} */ (this.querySelectorAll("li[data-id]:not([hidden])"))];
    }

    /** @returns {HTMLElement[]} the rows whose boxes are checked */
    get selectedRows() {
      return this.rows.filter((row) => row.querySelector(":checked"));
    }

    /**
     * Change rows, those that the verb can change, and offer to undo it.
     * @param {Verb} verb
     * @param {HTMLElement[]} rows
     */
    async change(verb, rows) {
      const changed = rows.filter((row) => this.#canChange(verb, row));
      if (!changed.length) return;
      const next = this.#rowAfter(changed);
      const hadFocus = changed.some((row) => row.contains(document.activeElement));
      // Before the response: what is selected meanwhile stays selected.
      const boxes = this.#checkedBoxes(changed);
      for (const box of boxes) box.checked = false;
      try {
        await page.mark(verb, changed.map(toItem));
      } catch {
        for (const box of boxes) box.checked = true;
        this.#showMessage(localization.text("unsaved"));
        return;
      }
      this.#render(verb, changed);
      if (hadFocus) focusRow(changed[0].hidden ? next : changed[0]);
      const count = localization.formatNumber(changed.length);
      this.#showMessage(localization.text(`did_${verb}`, { count }), async () => {
        try {
          await page.mark(INVERSE_VERBS[verb], changed.map(toItem));
        } catch {
          this.#showMessage(localization.text("unsaved"));
          return;
        }
        this.#render(INVERSE_VERBS[verb], changed);
        this.#showMessage(localization.text("undone"));
        focusRow(changed[0]);
      });
    }

    /** @param {MouseEvent} event */
    #handleClick = (event) => {
      const target = /** @type {HTMLElement} */ (event.target);
      const row = /** @type {HTMLElement|null} */ (target.closest("[data-unread]"));
      // The page leaves for the notification's URL: there is no place for an error.
      if (row && target.closest("a")) page.mark("read", [toItem(row)]).catch(() => undefined);
      if (!(target instanceof HTMLInputElement) || target.name !== "id") return;
      const boxes = this.rows.map((row) => /** @type {HTMLInputElement} */ (row.querySelector("[name=id]")));
      const [from, to] = [boxes.indexOf(this.#lastBox ?? target), boxes.indexOf(target)];
      if (event.shiftKey && from >= 0) {
        for (const box of boxes.slice(Math.min(from, to), Math.max(from, to) + 1))
          box.checked = target.checked;
      }
      this.#lastBox = target;
    };

    /**
     * Change one or the selected rows in place. A change of all is sent by the browser.
     * @param {SubmitEvent} event
     */
    #handleSubmit = (event) => {
      const { name = "", value = "" } = /** @type {HTMLButtonElement} */ (event.submitter ?? {});
      if (name !== "one" && name !== "verb") return;
      event.preventDefault();
      const [verb, id] = value.split(".");
      const row = id && dom.findRow(this, id);
      void this.change(/** @type {Verb} */ (verb), row ? [row] : this.selectedRows);
    };

    /** Mark what the list shows as seen, once the page is visible: it may have been opened in another tab. */
    #markShownSeen = () => {
      if (document.visibilityState !== "visible") return;
      void page.markSeen(Math.max(0, ...this.rows.map((row) => Number(row.dataset.raised))));
    };

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
     * Drop everything about the user when they have signed out, and load the page again when they are back.
     * @param {string} state
     */
    #handleState(state) {
      const isSignedOut = this.dataset.state === "signed_out";
      if (isSignedOut && (state === "live" || state === "polling")) location.reload();
      if (isSignedOut || state !== "signed_out") return;
      this.dataset.state = state;
      for (const part of [...(this.parentElement?.children ?? [])]) {
        if (part !== this && !part.matches(".notifications-heading")) part.remove();
      }
      const note = dom.createElement("p", "notifications-note", `${localization.text("signed_out")} `);
      note.role = "status";
      const link = dom.createElement("a", "", localization.text("sign_in"));
      link.href = page.getSignInUrl();
      note.append(link);
      this.replaceChildren(note);
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
        link.href = page.inboxUrl;
        this.prepend(link);
      }
      link.textContent = localization.text("new", { count: localization.formatNumber(count) });
    }

    /**
     * @param {Verb} verb
     * @param {HTMLElement} row
     */
    #canChange(verb, row) {
      const isDone = this.getAttribute("view") === "done";
      // What is archived is not shown as unread.
      if (verb === "read" || verb === "unread") {
        return !isDone && row.hasAttribute("data-unread") === (verb === "read");
      }
      return (verb === "unarchive") === isDone;
    }

    /** @param {HTMLElement[]} rows */
    #checkedBoxes(rows) {
      return rows.flatMap((row) => [
        .../** @type {NodeListOf<HTMLInputElement>} */ (row.querySelectorAll(":checked")),
      ]);
    }

    /**
     * Show rows as a verb has changed them: those that are in another view now are hidden.
     * @param {Verb} verb
     * @param {HTMLElement[]} rows
     */
    #render(verb, rows) {
      const isDone = this.getAttribute("view") === "done";
      for (const row of rows) {
        if (verb === "archive") row.hidden = !isDone;
        else if (verb === "unarchive") row.hidden = isDone;
        else
          dom.updateUnreadMark(
            row,
            { read_at: verb === "read" ? "" : null, archived_at: null },
            localization,
          );
      }
    }

    /**
     * Return the row to which the focus moves when these ones are hidden.
     * @param {HTMLElement[]} changed
     */
    #rowAfter(changed) {
      const rows = this.rows;
      const last = rows.indexOf(/** @type {HTMLElement} */ (changed.at(-1)));
      return rows.slice(last + 1).find((row) => !changed.includes(row)) ?? rows[rows.indexOf(changed[0]) - 1];
    }

    /**
     * @param {string} text
     * @param {() => void} [undo]
     */
    #showMessage(text, undo) {
      this.#message.replaceChildren(dom.createElement("span", "", text));
      if (!undo) return;
      const button = dom.createElement("button", "notifications-quiet", localization.text("undo"));
      button.addEventListener("click", undo, { once: true });
      this.#message.append(button);
    }
  }

  /** @param {HTMLElement} row */
  function toItem({ dataset }) {
    return { id: dataset.id ?? "", raised: Number(dataset.raised) };
  }

  /** @param {HTMLElement|undefined} row */
  function focusRow(row) {
    const target = row?.querySelector("a.notifications-title") ?? row?.querySelector("[name=id]");
    /** @type {HTMLElement|null|undefined} */ (target)?.focus();
  }

  if (!customElements.get("notifications-inbox")) customElements.define("notifications-inbox", Inbox);
}
