// <notifications-bell>: a button with the unseen count, which opens a list of the latest notifications.

/**
 * @typedef {import("./client.js").Notification} Notification
 * @typedef {import("./client.js").Change} Change
 * @typedef {import("./notifications.js").Page} Page
 */

const LIST_LENGTH = 8;
const PANEL_MARGIN_PX = 8;

/** @param {Page} page */
export function define(page) {
  const { client, localization, dom } = page;
  const { createElement } = dom;

  class Bell extends HTMLElement {
    /** @type {(() => void)[]} */
    #cleanups = [];
    #button = document.createElement("button");
    #label = createElement("span", "notifications-hidden");
    #badge = createElement("span", "notifications-count");
    #panel = createElement("div", "notifications-panel");
    #markAllButton = createElement("button", "notifications-quiet", localization.text("read_all"));
    #newerButton = createElement("button", "notifications-news");
    #list = createElement("ul", "notifications-list");
    #note = createElement("p", "notifications-note");
    #retryButton = createElement("button", "notifications-quiet", localization.text("again"));
    #status = createElement("p", "notifications-status");
    /** @type {Set<string>} ids of the notifications in the list */
    #shownIds = new Set();
    #titlePrefix = "";

    connectedCallback() {
      if (this.#cleanups.length || !("popover" in HTMLElement.prototype)) return;
      if (!this.#panel.isConnected) this.#build();
      const updateTitle = () => this.#updateTitle();
      const placePanel = () => this.#placePanel();
      document.addEventListener("visibilitychange", updateTitle);
      addEventListener("resize", placePanel);
      this.#cleanups = [
        client.on("change", (change) => this.#handleChange(change)),
        client.on("state", () => this.#showState()),
        page.onOutage(() => this.#showState()),
        () => document.removeEventListener("visibilitychange", updateTitle),
        () => removeEventListener("resize", placePanel),
      ];
      this.#updateCount();
    }

    disconnectedCallback() {
      for (const cleanup of this.#cleanups.splice(0)) cleanup();
    }

    #build() {
      const icon = createElement("span", "notifications-icon");
      icon.setAttribute("aria-hidden", "true");
      this.#badge.setAttribute("aria-hidden", "true");
      this.#button.type = "button";
      this.#button.className = "notifications-button";
      this.#button.popoverTargetElement = this.#panel;
      this.#button.append(icon, this.#label, this.#badge);
      this.#panel.popover = "auto";
      this.#panel.setAttribute("role", "dialog");
      this.#panel.setAttribute("aria-label", localization.text("notifications"));
      this.#panel.addEventListener("beforetoggle", (event) => {
        if (/** @type {ToggleEvent} */ (event).newState === "open") this.#open();
      });
      this.#panel.addEventListener("toggle", () => this.#placePanel());
      this.#status.setAttribute("role", "status");
      this.replaceChildren(this.#button, this.#panel);
    }

    /** Fill the panel when it is opened for the first time. */
    #buildPanel() {
      this.#markAllButton.addEventListener("click", () => void this.#markAllRead());
      this.#newerButton.addEventListener("click", () => {
        this.#renderList();
        this.#markShownSeen();
      });
      this.#retryButton.addEventListener("click", () => this.#open());
      const head = createElement("div", "notifications-head");
      head.append(createElement("strong", "", localization.text("notifications")), this.#markAllButton);
      const link = createElement("a", "notifications-foot", localization.text("see_all"));
      link.href = page.inboxUrl;
      const parts = [head, this.#status, this.#newerButton, this.#list, this.#note, this.#retryButton, link];
      this.#panel.append(...parts);
    }

    #updateCount() {
      const [unread, unseen] = [client.unread ?? 0, client.unseen ?? 0];
      const counts = { count: localization.formatNumber(unread), new: localization.formatNumber(unseen) };
      if (unseen) this.#label.textContent = localization.text("bell_new", counts);
      else if (unread) this.#label.textContent = localization.text("bell", counts);
      else this.#label.textContent = localization.text("bell_none");
      this.#button.title = this.dataset.state ? localization.text(this.dataset.state) : "";
      this.#badge.textContent = localization.formatBadge(unseen);
      this.#badge.hidden = unseen === 0;
      this.#markAllButton.hidden = unread === 0;
      this.#updateTitle();
    }

    /** Put the unseen count before the title of a hidden tab. The page may have changed its title meanwhile. */
    #updateTitle() {
      const title = document.title.startsWith(this.#titlePrefix)
        ? document.title.slice(this.#titlePrefix.length)
        : document.title;
      const unseen = client.unseen ?? 0;
      const isShown = document.visibilityState === "hidden" && unseen > 0;
      this.#titlePrefix = isShown ? `(${localization.formatBadge(unseen)}) ` : "";
      if (document.title !== this.#titlePrefix + title) document.title = this.#titlePrefix + title;
    }

    #open() {
      if (!this.#panel.hasChildNodes()) this.#buildPanel();
      if (client.state === "signed_out") return;
      this.#renderList();
      this.#showNote(this.#shownIds.size ? "" : localization.text("loading"));
      page.loadLatest(LIST_LENGTH).then(
        () => {
          this.#renderList();
          this.#markShownSeen();
        },
        () => this.#showNote(localization.text("unreadable"), { canRetry: true }),
      );
    }

    #renderList() {
      const latest = [...client.stream.notifications.values()]
        .filter((item) => item.archived_at === null)
        .sort((a, b) => b.raised - a.raised)
        .slice(0, LIST_LENGTH);
      const rows = /** @type {HTMLElement[]} */ ([...this.#list.children]);
      if (rows.map((row) => row.dataset.id).join() === latest.map((item) => item.id).join()) {
        // The list is the same. New rows would take away the keyboard focus.
        for (const [index, row] of rows.entries()) this.#updateRow(row, latest[index]);
      } else {
        this.#list.replaceChildren(...latest.map((item) => this.#createRow(item)));
      }
      this.#shownIds = new Set(latest.map((item) => item.id));
      this.#newerButton.hidden = true;
      this.#showNote(latest.length ? "" : localization.text("empty"));
    }

    /** @param {Notification} item */
    #createRow(item) {
      const row = createElement("li", "notifications-item");
      row.dataset.id = item.id;
      row.dataset.level = item.level;
      const main = createElement("div", "notifications-main");
      const actions = dom.createActions(item, page.getActionUrl);
      main.append(dom.createSummary(item, page), ...(actions ? [actions] : []));
      row.append(main);
      dom.updateUnreadMark(row, item, localization);
      return row;
    }

    /**
     * @param {HTMLElement} row
     * @param {Notification} item
     */
    #updateRow(row, item) {
      dom.updateUnreadMark(row, item, localization);
      const time = row.querySelector("time");
      if (time) time.textContent = localization.formatRelative(time.dateTime);
    }

    /** @param {Change} change */
    #handleChange(change) {
      this.#updateCount();
      if (!this.#panel.matches(":popover-open")) return;
      for (const item of change.notifications) {
        const row = dom.findRow(this.#list, item.id);
        if (row) dom.updateUnreadMark(row, item, localization);
      }
      // A jobs frame brings no notifications: those that loadLatest() merges are rendered when it has ended.
      if (change.op === "jobs") return;
      // The list may have been loaded before the frame that counts its newest row.
      this.#markShownSeen();
      const newest = this.#newestShown();
      const newer = [...client.stream.notifications.values()].filter(
        (item) => item.raised > newest && item.archived_at === null,
      );
      if (newer.length === 0) return;
      this.#newerButton.textContent = localization.text("new", {
        count: localization.formatNumber(newer.length),
      });
      this.#newerButton.hidden = false;
    }

    /** Return the greatest `raised` in the list. */
    #newestShown() {
      const { notifications } = client.stream;
      return Math.max(0, ...[...this.#shownIds].map((id) => notifications.get(id)?.raised ?? 0));
    }

    #markShownSeen() {
      if (this.#panel.matches(":popover-open")) void page.markSeen(this.#newestShown());
    }

    async #markAllRead() {
      const raised = [...client.stream.notifications.values()].map((item) => item.raised);
      try {
        await page.markReadUpTo(Math.max(0, ...raised));
      } catch {
        this.#showNote(localization.text("unsaved"));
      }
    }

    /** Show that the user is signed out, or that the server cannot be reached, at the closed bell too. */
    #showState() {
      const isSignedOut = client.state === "signed_out";
      const state = isSignedOut ? "signed_out" : page.isOut() ? "offline" : "";
      if (this.dataset.state === state) return;
      this.dataset.state = state;
      this.#updateCount();
      this.#status.textContent = state && localization.text(state);
      if (isSignedOut) {
        const link = createElement("a", "", localization.text("sign_in"));
        link.href = page.getSignInUrl();
        this.#status.append(" ", link);
        this.#list.replaceChildren();
        this.#shownIds.clear();
        this.#newerButton.hidden = true;
        this.#showNote("");
      }
    }

    /**
     * @param {string} text
     * @param {{canRetry?: boolean}} [options]
     */
    #showNote(text, { canRetry = false } = {}) {
      this.#note.textContent = text;
      this.#note.hidden = text === "";
      this.#retryButton.hidden = !canRetry;
    }

    /** Place the panel below the button and inside the window; a style sheet does not know where the button is. */
    #placePanel() {
      if (!this.#panel.matches(":popover-open")) return;
      const button = this.#button.getBoundingClientRect();
      const width = this.#panel.offsetWidth;
      const isRightToLeft = getComputedStyle(this).direction === "rtl";
      const left = isRightToLeft ? button.left : button.right - width;
      const maxLeft = document.documentElement.clientWidth - width - PANEL_MARGIN_PX;
      this.#panel.style.left = `${Math.max(PANEL_MARGIN_PX, Math.min(left, maxLeft))}px`;
      this.#panel.style.top = `${Math.max(PANEL_MARGIN_PX, button.bottom + PANEL_MARGIN_PX)}px`;
    }
  }

  if (!customElements.get("notifications-bell")) customElements.define("notifications-bell", Bell);
}
