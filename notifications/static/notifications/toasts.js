// Which notifications become toasts, and the element that shows them.

/**
 * @typedef {import("./client.js").Notification} Notification
 * @typedef {import("./client.js").Change} Change
 * @typedef {import("./connection.js").Clock} Clock
 * @typedef {import("./notifications.js").Page} Page
 */

const YOUNG = 5 * 60_000;
const GATHER = 100;
const REMEMBER = 60 * 60_000;
const SPREAD = 5_000;
const SHOWN_FOR = 8_000;
const MOST = 3;

/**
 * Lets each notification through once per browser: if it is unread and came live or is younger than five minutes,
 * and only in a tab that is seen.
 */
export class Announcer {
  #options;
  /** @type {Map<string, {item: Notification, live: boolean}>} */
  #pending = new Map();
  #timer = /** @type {any} */ (null);
  /** @type {Record<string, number>} */
  #memory = {};

  /**
   * @param {object} options
   * @param {string} options.name one per user: where this browser remembers what it has shown
   * @param {() => Storage} options.storage may throw, where cookies are blocked
   * @param {LockManager|undefined} options.locks
   * @param {Clock} options.clock
   * @param {() => boolean} options.visible
   * @param {(items: Notification[]) => void} options.show oldest first
   */
  constructor(options) {
    this.#options = options;
  }

  /** @param {Change} change */
  offer({ op, notifications }) {
    const seen = op === "change" && this.#options.visible();
    for (const item of notifications) {
      // An old one that was marked as unread moves in the stream too, and is no news.
      const live = seen && item.seq === item.raised;
      if (!wanted(item)) this.#pending.delete(item.id);
      else if (live || this.#young(item)) this.#pending.set(item.id, { item, live });
    }
    this.flush();
  }

  /** To be called when the tab is seen again, too. */
  flush() {
    if (this.#timer !== null || this.#pending.size === 0 || !this.#options.visible()) return;
    this.#timer = this.#options.clock.setTimeout(() => {
      this.#timer = null;
      void this.#show();
    }, GATHER);
  }

  async #show() {
    const { visible, show } = this.#options;
    if (!visible()) return;
    const batch = [...this.#pending.values()].filter(({ item, live }) => live || this.#young(item));
    this.#pending.clear();
    const claims = await Promise.all(batch.map(({ item }) => this.#claim(item.id)));
    const items = batch.map(({ item }) => item).filter((_, at) => claims[at]);
    if (items.length) show(items.sort((a, b) => a.raised - b.raised));
  }

  /**
   * What one tab writes to localStorage, another process may read late. So whoever comes first also holds a lock,
   * for as long as that may take.
   * @param {string} id
   * @returns {Promise<boolean>} whether no tab of this browser has shown it; from now on it counts as shown
   */
  #claim(id) {
    const { locks, name, clock } = this.#options;
    if (!locks) return Promise.resolve(this.#isFirst(id));
    return new Promise((resolve) => {
      const claim = (/** @type {unknown} */ lock) => {
        const first = lock !== null && this.#isFirst(id);
        resolve(first);
        return first ? new Promise((release) => clock.setTimeout(() => release(null), SPREAD)) : null;
      };
      locks.request(`${name}:toast:${id}`, { ifAvailable: true }, claim).catch(() => resolve(false));
    });
  }

  /** @param {string} id */
  #isFirst(id) {
    const now = this.#options.clock.now();
    const shown = Object.entries(this.#remembered()).filter(([, at]) => now - at < REMEMBER);
    if (shown.some(([known]) => known === id)) return false;
    this.#remember(Object.fromEntries([...shown, [id, now]]));
    return true;
  }

  /** @returns {Record<string, number>} */
  #remembered() {
    try {
      const stored = JSON.parse(this.#options.storage().getItem(`${this.#options.name}:shown`) ?? "{}");
      return { ...this.#memory, ...stored };
    } catch {
      return this.#memory;
    }
  }

  /** @param {Record<string, number>} shown */
  #remember(shown) {
    this.#memory = shown;
    try {
      this.#options.storage().setItem(`${this.#options.name}:shown`, JSON.stringify(shown));
    } catch {
      // Blocked or full: this tab alone remembers.
    }
  }

  /** @param {Notification} item */
  #young(item) {
    return this.#options.clock.now() - Date.parse(item.created_at) < YOUNG;
  }
}

/** @param {Notification} item */
function wanted(item) {
  return item.read_at === null && item.archived_at === null;
}

/** @param {Page} page */
export function define(page) {
  const { client, words } = page;

  class Toasts extends HTMLElement {
    /** @type {{items: Notification[], node: HTMLElement, timer: any}[]} */
    #toasts = [];
    /** @type {(() => void)[]} */
    #ends = [];
    #announcer = new Announcer({
      name: page.name,
      storage: () => localStorage,
      locks: navigator.locks,
      clock: page.clock,
      visible: () => document.visibilityState === "visible",
      show: (items) => this.show(items),
    });

    connectedCallback() {
      if (this.#ends.length) return;
      // Below a host's header that is transformed or clipped, position: fixed would not mean the window.
      if (this.parentNode !== document.body) return document.body.append(this);
      const seen = () => this.#announcer.flush();
      const key = (/** @type {KeyboardEvent} */ event) => this.#key(event);
      document.addEventListener("visibilitychange", seen);
      document.addEventListener("keydown", key);
      this.#ends = [
        client.on("change", (change) => this.#change(change)),
        client.on("state", (state) => state === "signed_out" && this.clear()),
        () => document.removeEventListener("visibilitychange", seen),
        () => document.removeEventListener("keydown", key),
      ];
    }

    disconnectedCallback() {
      for (const end of this.#ends.splice(0)) end();
      this.clear();
    }

    /**
     * More than three at once become one that counts them.
     * @param {Notification[]} items
     */
    show(items) {
      const event = new CustomEvent("notifications:toast", {
        bubbles: true,
        cancelable: true,
        detail: items,
      });
      if (!this.dispatchEvent(event)) return;
      const all = [...this.#toasts.flatMap((toast) => toast.items), ...items];
      const summed = this.#toasts.some((toast) => toast.items.length > 1);
      if (all.length <= MOST && !summed) return items.forEach((item) => this.#add([item]));
      this.clear();
      this.#add(all);
    }

    clear() {
      for (const toast of [...this.#toasts]) this.#remove(toast);
    }

    /** @param {Change} change */
    #change(change) {
      const gone = new Set(change.notifications.filter((item) => !wanted(item)).map((item) => item.id));
      for (const toast of [...this.#toasts])
        if (toast.items.every((item) => gone.has(item.id))) this.#remove(toast);
      this.#announcer.offer(change);
    }

    /** @param {Notification[]} items */
    #add(items) {
      const urgent = items.some((item) => item.level === "error");
      const loud = items.some((item) => item.level === "error" || item.level === "warning");
      const node = document.createElement("div");
      node.className = "notifications-toast";
      node.dataset.level = items.length === 1 ? items[0].level : urgent ? "error" : "info";
      node.append(
        items.length === 1 ? page.summarize(items[0]) : this.#sum(items.length),
        this.#close(() => toast),
      );
      const toast = { items, node, timer: /** @type {any} */ (null) };
      this.#toasts.push(toast);
      this.querySelector(loud ? "[role=alert]" : "[role=status]")?.append(node);
      if (!urgent) this.#expire(toast);
    }

    /** @param {number} count */
    #sum(count) {
      const link = document.createElement("a");
      link.className = "notifications-title";
      link.href = page.inbox;
      link.textContent = words.say("summary", { count: words.number.format(count) });
      return link;
    }

    /** @param {() => {items: Notification[], node: HTMLElement, timer: any}} toast */
    #close(toast) {
      const button = document.createElement("button");
      button.type = "button";
      button.className = "notifications-close";
      button.setAttribute("aria-label", words.say("dismiss"));
      button.addEventListener("click", () => this.#dismiss(toast()));
      return button;
    }

    /**
     * Hover and focus stop the timer; it starts anew when both are over.
     * @param {{items: Notification[], node: HTMLElement, timer: any}} toast
     */
    #expire(toast) {
      const { clock } = page;
      const stop = () => clock.clearTimeout(toast.timer);
      const start = () => {
        stop();
        if (!toast.node.matches(":hover, :focus-within")) {
          toast.timer = clock.setTimeout(() => this.#remove(toast), SHOWN_FOR);
        }
      };
      for (const type of ["mouseenter", "focusin"]) toast.node.addEventListener(type, stop);
      for (const type of ["mouseleave", "focusout"])
        toast.node.addEventListener(type, () => setTimeout(start));
      start();
    }

    /** @param {KeyboardEvent} event */
    #key(event) {
      const open = document.querySelector("[popover]:popover-open, dialog[open]");
      if (event.key !== "Escape" || event.defaultPrevented || open) return;
      const focused = this.#toasts.find((toast) => toast.node.contains(document.activeElement));
      const toast = focused ?? this.#toasts.at(-1);
      if (toast) this.#dismiss(toast);
    }

    /** @param {{items: Notification[], node: HTMLElement, timer: any}} toast */
    #dismiss(toast) {
      const focused = toast.node.contains(document.activeElement);
      this.#remove(toast);
      if (focused) this.#toasts.at(-1)?.node.querySelector("button")?.focus();
    }

    /** @param {{items: Notification[], node: HTMLElement, timer: any}} toast */
    #remove(toast) {
      page.clock.clearTimeout(toast.timer);
      toast.node.remove();
      this.#toasts = this.#toasts.filter((other) => other !== toast);
    }
  }

  if (!customElements.get("notifications-toasts")) customElements.define("notifications-toasts", Toasts);
}
