// <notifications-bell>: how many are unread, and the latest on demand.
// <notifications-inbox>: keeps a list that the server rendered up to date without moving it.

/**
 * @typedef {import("./client.js").Notification} Notification
 * @typedef {import("./client.js").Change} Change
 * @typedef {import("./notifications.js").Page} Page
 */

const LATEST = 8;
const SILENT = 5_000;
const FINE = new Set(["live", "polling"]);

/** @param {Page} page */
export function define(page) {
  if (!customElements.get("notifications-bell")) customElements.define("notifications-bell", bell(page));
  if (!customElements.get("notifications-inbox")) customElements.define("notifications-inbox", inbox(page));
}

/** @param {Page} page */
function bell(page) {
  const { client, words } = page;

  return class Bell extends HTMLElement {
    /** @type {(() => void)[]} */
    #ends = [];
    #button = document.createElement("button");
    #name = element("span", "notifications-hidden");
    #badge = element("span", "notifications-count");
    #panel = element("div", "notifications-panel");
    #all = element("button", "notifications-quiet", words.say("read_all"));
    #news = element("button", "notifications-news");
    #list = element("ul", "notifications-list");
    #note = element("p", "notifications-note");
    #again = element("button", "notifications-quiet", words.say("again"));
    #status = element("p", "notifications-status");
    /** @type {Set<string>} */
    #drawn = new Set();
    #prefix = "";
    #timer = /** @type {any} */ (null);

    connectedCallback() {
      if (this.#ends.length || !("popover" in HTMLElement.prototype)) return;
      if (!this.#panel.isConnected) this.#build();
      const title = () => this.#title();
      const place = () => this.#place();
      document.addEventListener("visibilitychange", title);
      addEventListener("resize", place);
      this.#ends = [
        client.on("change", (change) => this.#change(change)),
        client.on("state", (state) => this.#connection(state)),
        () => document.removeEventListener("visibilitychange", title),
        () => removeEventListener("resize", place),
      ];
      this.#count();
    }

    disconnectedCallback() {
      for (const end of this.#ends.splice(0)) end();
      page.clock.clearTimeout(this.#timer);
      this.#timer = null;
    }

    #build() {
      const icon = element("span", "notifications-icon");
      icon.setAttribute("aria-hidden", "true");
      this.#badge.setAttribute("aria-hidden", "true");
      this.#button.type = "button";
      this.#button.className = "notifications-button";
      this.#button.popoverTargetElement = this.#panel;
      this.#button.append(icon, this.#name, this.#badge);
      this.#panel.popover = "auto";
      this.#panel.setAttribute("role", "dialog");
      this.#panel.setAttribute("aria-label", words.say("notifications"));
      this.#panel.addEventListener("beforetoggle", (event) => {
        if (/** @type {ToggleEvent} */ (event).newState === "open") this.#open();
      });
      this.#panel.addEventListener("toggle", () => this.#place());
      this.#status.setAttribute("role", "status");
      this.replaceChildren(this.#button, this.#panel);
    }

    #furnish() {
      this.#all.addEventListener("click", () => void this.#readAll());
      this.#news.addEventListener("click", () => this.#draw());
      this.#again.addEventListener("click", () => this.#open());
      const head = element("div", "notifications-head");
      head.append(element("strong", "", words.say("notifications")), this.#all);
      const link = /** @type {HTMLAnchorElement} */ (
        element("a", "notifications-foot", words.say("see_all"))
      );
      link.href = page.inbox;
      this.#panel.append(head, this.#status, this.#news, this.#list, this.#note, this.#again, link);
    }

    #count() {
      const unread = client.unread ?? 0;
      const count = words.number.format(unread);
      this.#name.textContent = unread ? words.say("bell", { count }) : words.say("bell_none");
      this.#badge.textContent = words.count(unread);
      this.#badge.hidden = unread === 0;
      this.#all.hidden = unread === 0;
      this.#title();
    }

    /** A hidden tab says in its title how many are unread; the page may change its title meanwhile. */
    #title() {
      const title = document.title.startsWith(this.#prefix)
        ? document.title.slice(this.#prefix.length)
        : document.title;
      const unread = client.unread ?? 0;
      this.#prefix = document.visibilityState === "hidden" && unread ? `(${words.count(unread)}) ` : "";
      if (document.title !== this.#prefix + title) document.title = this.#prefix + title;
    }

    #open() {
      if (!this.#panel.hasChildNodes()) this.#furnish();
      this.#draw();
      this.#tell(this.#drawn.size ? "" : words.say("loading"));
      page.latest(LATEST).then(
        () => this.#draw(),
        () => this.#tell(words.say("unreadable"), true),
      );
    }

    #draw() {
      const latest = [...client.stream.notifications.values()]
        .filter((item) => item.archived_at === null)
        .sort((a, b) => b.raised - a.raised)
        .slice(0, LATEST);
      const rows = /** @type {HTMLElement[]} */ ([...this.#list.children]);
      if (rows.map((row) => row.dataset.id).join() === latest.map((item) => item.id).join()) {
        // The same again: its rows stay, somebody may have gone into the list by keyboard.
        rows.forEach((row, index) => this.#refresh(row, latest[index]));
      } else {
        this.#list.replaceChildren(...latest.map((item) => this.#row(item)));
      }
      this.#drawn = new Set(latest.map((item) => item.id));
      this.#news.hidden = true;
      this.#tell(latest.length ? "" : words.say("empty"));
    }

    /** @param {Notification} item */
    #row(item) {
      const row = element("li", "notifications-item");
      row.dataset.id = item.id;
      row.dataset.level = item.level;
      row.append(page.summarize(item));
      mark(row, item, words.say("unread"));
      return row;
    }

    /**
     * @param {HTMLElement} row
     * @param {Notification} item
     */
    #refresh(row, item) {
      mark(row, item, words.say("unread"));
      const time = row.querySelector("time");
      if (time) time.textContent = words.ago(time.dateTime);
    }

    /** @param {Change} change */
    #change(change) {
      this.#count();
      if (!this.#panel.matches(":popover-open")) return;
      for (const item of change.notifications) {
        const row = /** @type {HTMLElement|null} */ (
          this.#list.querySelector(`[data-id="${CSS.escape(item.id)}"]`)
        );
        if (row) mark(row, item, words.say("unread"));
      }
      const newest = Math.max(
        0,
        ...[...this.#drawn].map((id) => client.stream.notifications.get(id)?.raised ?? 0),
      );
      const news =
        change.op === "jobs"
          ? []
          : [...client.stream.notifications.values()].filter(
              (item) => item.raised > newest && item.archived_at === null,
            );
      if (news.length === 0) return;
      this.#news.textContent = words.say("new", { count: words.number.format(news.length) });
      this.#news.hidden = false;
    }

    async #readAll() {
      const shown = [...client.stream.notifications.values()].map((item) => item.raised);
      try {
        await page.readUpTo(Math.max(0, ...shown));
      } catch {
        this.#tell(words.say("unsaved"));
      }
    }

    /**
     * An outage is told when it is 5 s old, however often the client tried meanwhile.
     * @param {string} state
     */
    #connection(state) {
      if (state === "signed_out" || FINE.has(state)) {
        page.clock.clearTimeout(this.#timer);
        this.#timer = null;
        this.#say(state === "signed_out" ? state : "");
        if (state === "signed_out") this.#list.replaceChildren();
        this.#count();
      } else {
        this.#timer ??= page.clock.setTimeout(() => this.#say("offline"), SILENT);
      }
    }

    /** @param {"signed_out"|"offline"|""} state */
    #say(state) {
      this.dataset.state = state;
      this.#status.textContent = state && words.say(state);
    }

    /**
     * @param {string} text
     * @param {boolean} [again]
     */
    #tell(text, again = false) {
      this.#note.textContent = text;
      this.#note.hidden = text === "";
      this.#again.hidden = !again;
    }

    /** Below the button, inside the window; a style sheet cannot know where that is. */
    #place() {
      if (!this.#panel.matches(":popover-open")) return;
      const button = this.#button.getBoundingClientRect();
      const width = this.#panel.offsetWidth;
      const rtl = getComputedStyle(this).direction === "rtl";
      const left = rtl ? button.left : button.right - width;
      const most = document.documentElement.clientWidth - width - 8;
      this.#panel.style.left = `${Math.max(8, Math.min(left, most))}px`;
      this.#panel.style.top = `${Math.max(8, button.bottom + 8)}px`;
    }
  };
}

/** @param {Page} page */
function inbox({ client, words, read, inbox: href }) {
  return class Inbox extends HTMLElement {
    /** @type {(() => void)|null} */
    #end = null;
    #newest = 0;
    /** @param {Event} event */
    #click = ({ target }) => {
      const row = /** @type {Element} */ (target).closest("a.notifications-title")?.closest("[data-unread]");
      const { id = "", raised } = /** @type {HTMLElement|null|undefined} */ (row)?.dataset ?? {};
      if (id) void read([{ id, raised: Number(raised) }]);
    };

    connectedCallback() {
      if (this.#end) return;
      this.#newest = Number(this.getAttribute("newest") ?? 0);
      for (const time of this.querySelectorAll("time")) {
        time.title ||= words.exact(time.dateTime);
        time.textContent = words.ago(time.dateTime);
      }
      this.#endMarking(0);
      this.addEventListener("click", this.#click);
      this.#end = client.on("change", (change) => this.#change(change));
    }

    disconnectedCallback() {
      this.removeEventListener("click", this.#click);
      this.#end?.();
      this.#end = null;
    }

    /** @param {Change} change */
    #change(change) {
      for (const item of change.notifications) {
        const row = /** @type {HTMLElement|null} */ (
          this.querySelector(`[data-id="${CSS.escape(item.id)}"]`)
        );
        if (row) mark(row, item, words.say("unread"));
      }
      const news = [...client.stream.notifications.values()].filter(
        (item) => item.raised > this.#newest && item.archived_at === null,
      );
      if (news.length) this.#offer(news.length);
      this.#endMarking(news.filter((item) => item.read_at === null).length);
    }

    /**
     * Marking as read in the background is done when all that is unread is newer than this page.
     * @param {number} newer
     */
    #endMarking(newer) {
      const note = /** @type {HTMLElement|null} */ (this.querySelector("[data-done]"));
      if (note && (client.unread ?? Infinity) <= newer) note.textContent = note.dataset.done ?? "";
    }

    /** @param {number} count */
    #offer(count) {
      let link = /** @type {HTMLAnchorElement|null} */ (this.querySelector(".notifications-news"));
      if (!link) {
        link = /** @type {HTMLAnchorElement} */ (element("a", "notifications-news"));
        link.href = href;
        this.prepend(link);
      }
      link.textContent = words.say("new", { count: words.number.format(count) });
    }
  };
}

/**
 * @param {HTMLElement} row
 * @param {Notification} item
 * @param {string} unread
 */
function mark(row, item, unread) {
  const isUnread = item.read_at === null && item.archived_at === null;
  row.toggleAttribute("data-unread", isUnread);
  const old = row.querySelector(".notifications-unread");
  if (isUnread && !old)
    row.prepend(element("span", "notifications-unread notifications-hidden", `${unread}: `));
  if (!isUnread) {
    old?.remove();
    row.querySelector("form")?.remove();
  }
}

/**
 * @template {keyof HTMLElementTagNameMap} K
 * @param {K} tag
 * @param {string} [className]
 * @param {string} [text]
 * @returns {HTMLElementTagNameMap[K]}
 */
function element(tag, className = "", text = "") {
  const node = document.createElement(tag);
  node.className = className;
  node.textContent = text;
  if (node instanceof HTMLButtonElement) node.type = "button";
  return node;
}
