// <notifications-toasts>: shows notifications for a few seconds. ToastQueue decides which ones.

/**
 * @typedef {import("./client.js").Notification} Notification
 * @typedef {import("./client.js").Change} Change
 * @typedef {import("./connection.js").Clock} Clock
 * @typedef {import("./notifications.js").Page} Page
 * @typedef {{items: Notification[], node: HTMLElement, timer: any}} Toast
 */

/** Missed notifications become toasts only if they are younger than this. */
const MAX_AGE_MS = 5 * 60_000;
/** Notifications that arrive within this time are shown together. */
const BATCH_WINDOW_MS = 100;
/** How long the browser remembers which notifications it has shown. */
const MEMORY_MS = 60 * 60_000;
/** How long a write to localStorage may take to reach the process of another tab. */
const STORAGE_DELAY_MS = 5_000;
const TOAST_DURATION_MS = 8_000;
const MAX_TOASTS = 3;

/**
 * Passes each notification on once per browser, from a visible tab, if it is unread and either arrived live or is
 * younger than five minutes.
 */
export class ToastQueue {
  #options;
  /** @type {Map<string, {item: Notification, isLive: boolean}>} */
  #pending = new Map();
  #timer = /** @type {any} */ (null);
  /** @type {Record<string, number>} */
  #memory = {};

  /**
   * @param {object} options
   * @param {string} options.name prefix of the keys and locks: one per user
   * @param {() => Storage} options.getStorage may throw where cookies are blocked
   * @param {LockManager|undefined} options.locks
   * @param {Clock} options.clock
   * @param {() => boolean} options.isVisible
   * @param {() => boolean} options.hasUnseen whether the user has notifications that no list has shown yet
   * @param {(items: Notification[]) => void} options.show gets the oldest first
   */
  constructor(options) {
    this.#options = options;
  }

  /** @param {Change} change */
  add({ op, notifications }) {
    const isShownLive = op === "change" && this.#options.isVisible();
    for (const item of notifications) {
      // Read over HTTP for a list, which shows it: it is no toast, here or in another tab, when its frame arrives.
      if (op === "jobs") {
        this.#pending.delete(item.id);
        if (isUnread(item)) void this.#claim(item.id);
        continue;
      }
      // An old notification that is marked as unread moves in the stream too; its seq is above its raised then.
      const isLive = isShownLive && item.seq === item.raised;
      if (!isUnread(item)) this.#pending.delete(item.id);
      else if (isLive || this.#isRecent(item)) this.#pending.set(item.id, { item, isLive });
    }
    this.flush();
  }

  /** Show what is pending. Also called when the tab becomes visible. */
  flush() {
    if (this.#timer !== null || this.#pending.size === 0 || !this.#options.isVisible()) return;
    this.#timer = this.#options.clock.setTimeout(() => {
      this.#timer = null;
      void this.#showPending();
    }, BATCH_WINDOW_MS);
  }

  async #showPending() {
    const { isVisible, hasUnseen, show } = this.#options;
    if (!isVisible()) return;
    // Meanwhile a list may have shown them, perhaps on another device.
    if (!hasUnseen()) this.#pending.clear();
    const batch = [...this.#pending.values()].filter(({ item, isLive }) => isLive || this.#isRecent(item));
    this.#pending.clear();
    const claims = await Promise.all(batch.map(({ item }) => this.#claim(item.id)));
    const items = batch.map(({ item }) => item).filter((_, index) => claims[index]);
    if (items.length) show(items.sort((a, b) => a.raised - b.raised));
  }

  /**
   * Claim a notification for this tab. The claim is written to localStorage, which another process may read late; so
   * the tab also holds a lock for as long as that may take.
   * @param {string} id
   * @returns {Promise<boolean>} whether no tab of this browser has claimed it before
   */
  #claim(id) {
    const { locks, name, clock } = this.#options;
    if (!locks) return Promise.resolve(this.#claimInStorage(id));
    return new Promise((resolve) => {
      const claim = (/** @type {unknown} */ lock) => {
        const isFirst = lock !== null && this.#claimInStorage(id);
        resolve(isFirst);
        if (!isFirst) return null;
        return new Promise((release) => clock.setTimeout(() => release(null), STORAGE_DELAY_MS));
      };
      locks.request(`${name}:toast:${id}`, { ifAvailable: true }, claim).catch(() => resolve(false));
    });
  }

  /** @param {string} id */
  #claimInStorage(id) {
    const now = this.#options.clock.now();
    const recent = Object.entries(this.#readClaims()).filter(([, time]) => now - time < MEMORY_MS);
    if (recent.some(([claimedId]) => claimedId === id)) return false;
    this.#writeClaims(Object.fromEntries([...recent, [id, now]]));
    return true;
  }

  /** @returns {Record<string, number>} times by id */
  #readClaims() {
    try {
      const { name, getStorage } = this.#options;
      return { ...this.#memory, ...JSON.parse(getStorage().getItem(`${name}:shown`) ?? "{}") };
    } catch {
      return this.#memory;
    }
  }

  /** @param {Record<string, number>} claims */
  #writeClaims(claims) {
    this.#memory = claims;
    try {
      const { name, getStorage } = this.#options;
      getStorage().setItem(`${name}:shown`, JSON.stringify(claims));
    } catch {
      // Storage is blocked or full: the claims hold for this tab only.
    }
  }

  /** @param {Notification} item */
  #isRecent(item) {
    return this.#options.clock.now() - Date.parse(item.created_at) < MAX_AGE_MS;
  }
}

/** @param {Notification} item */
function isUnread(item) {
  return item.read_at === null && item.archived_at === null;
}

/** @param {Page} page */
export function define(page) {
  const { client, localization, dom } = page;

  class Toasts extends HTMLElement {
    /** @type {Toast[]} */
    #toasts = [];
    /** What had the focus before F8. */
    #returnTarget = /** @type {Element|null} */ (null);
    /** @type {(() => void)[]} */
    #cleanups = [];
    #queue = new ToastQueue({
      name: page.name,
      getStorage: () => localStorage,
      locks: navigator.locks,
      clock: page.clock,
      isVisible: () => document.visibilityState === "visible",
      hasUnseen: () => client.unseen !== 0,
      show: (items) => this.show(items),
    });

    connectedCallback() {
      if (this.#cleanups.length) return;
      // Inside a header that is transformed or clipped, position: fixed would not be relative to the window.
      // At its beginning, the toasts come before the content in the order of the Tab key.
      if (this.parentNode !== document.body) return document.body.prepend(this);
      const flush = () => this.#queue.flush();
      const handleKey = (/** @type {KeyboardEvent} */ event) => this.#handleKey(event);
      document.addEventListener("visibilitychange", flush);
      document.addEventListener("keydown", handleKey);
      this.#cleanups = [
        client.on("change", (change) => this.#handleChange(change)),
        client.on("state", (state) => state === "signed_out" && this.clear()),
        () => document.removeEventListener("visibilitychange", flush),
        () => document.removeEventListener("keydown", handleKey),
      ];
    }

    disconnectedCallback() {
      for (const cleanup of this.#cleanups.splice(0)) cleanup();
      this.clear();
    }

    /**
     * Show each notification as a toast, or all as one summary if there are more than three.
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
      const hasSummary = this.#toasts.some((toast) => toast.items.length > 1);
      if (all.length > MAX_TOASTS || hasSummary) {
        this.clear();
        this.#add(all);
      } else {
        for (const item of items) this.#add([item]);
      }
    }

    clear() {
      for (const toast of [...this.#toasts]) this.#remove(toast);
    }

    /** @param {Change} change */
    #handleChange(change) {
      const readIds = new Set(change.notifications.filter((item) => !isUnread(item)).map((item) => item.id));
      for (const toast of [...this.#toasts])
        if (toast.items.every((item) => readIds.has(item.id))) this.#remove(toast);
      this.#queue.add(change);
    }

    /** @param {Notification[]} items one notification, or several for a summary */
    #add(items) {
      const isError = items.some((item) => item.level === "error");
      const isAlert = isError || items.some((item) => item.level === "warning");
      const node = dom.createElement("div", "notifications-toast");
      node.dataset.level = items.length === 1 ? items[0].level : isError ? "error" : "info";
      const toast = { items, node, timer: /** @type {any} */ (null) };
      const actions = items.length === 1 && dom.createActions(items[0], page.getActionUrl);
      node.append(
        items.length === 1 ? dom.createSummary(items[0], page) : this.#createCount(items.length),
        this.#createCloseButton(toast),
        ...(actions ? [actions] : []),
      );
      if (!this.#toasts.length)
        node.append(dom.createElement("span", "notifications-hidden", localization.text("toasts_key")));
      this.#toasts.push(toast);
      this.querySelector(isAlert ? "[role=alert]" : "[role=status]")?.append(node);
      if (!isError) this.#startTimer(toast);
    }

    /** @param {number} count */
    #createCount(count) {
      const text = localization.text("summary", { count: localization.formatNumber(count) });
      const link = dom.createElement("a", "notifications-title", text);
      link.href = page.inboxUrl;
      return link;
    }

    /** @param {Toast} toast */
    #createCloseButton(toast) {
      const button = dom.createElement("button", "notifications-close");
      button.setAttribute("aria-label", localization.text("dismiss"));
      button.addEventListener("click", () => this.#dismiss(toast));
      return button;
    }

    /**
     * Remove a toast after 8 s. Hover and focus stop the timer; it starts again from 8 s when both have ended.
     * @param {Toast} toast
     */
    #startTimer(toast) {
      const { clock } = page;
      const stop = () => clock.clearTimeout(toast.timer);
      const restart = () => {
        stop();
        if (!toast.node.matches(":hover, :focus-within")) {
          toast.timer = clock.setTimeout(() => this.#remove(toast), TOAST_DURATION_MS);
        }
      };
      for (const type of ["mouseenter", "focusin"]) toast.node.addEventListener(type, stop);
      for (const type of ["mouseleave", "focusout"])
        toast.node.addEventListener(type, () => setTimeout(restart));
      restart();
    }

    /**
     * F8 moves the focus to the newest toast, and back from the toasts. Escape dismisses a toast.
     * @param {KeyboardEvent} event
     */
    #handleKey(event) {
      if (event.key === "F8" && this.#toasts.length && !event.defaultPrevented) {
        event.preventDefault();
        if (this.contains(document.activeElement)) return this.#returnFocus();
        this.#returnTarget = document.activeElement;
        this.#focusNewest();
      }
      const openLayer = document.querySelector("[popover]:popover-open, dialog[open]");
      if (event.key !== "Escape" || event.defaultPrevented || openLayer) return;
      const focused = this.#toasts.find((toast) => toast.node.contains(document.activeElement));
      const toast = focused ?? this.#toasts.at(-1);
      if (toast) this.#dismiss(toast);
    }

    /** @param {Toast} toast */
    #dismiss(toast) {
      const hadFocus = toast.node.contains(document.activeElement);
      this.#remove(toast);
      if (!hadFocus) return;
      if (this.#toasts.length) this.#focusNewest();
      else this.#returnFocus();
    }

    #focusNewest() {
      const node = this.#toasts.at(-1)?.node.querySelector("a, button");
      /** @type {HTMLElement|undefined|null} */ (node)?.focus();
    }

    #returnFocus() {
      /** @type {HTMLElement|null} */ (this.#returnTarget)?.focus?.();
    }

    /** @param {Toast} toast */
    #remove(toast) {
      page.clock.clearTimeout(toast.timer);
      toast.node.remove();
      this.#toasts = this.#toasts.filter((other) => other !== toast);
    }
  }

  if (!customElements.get("notifications-toasts")) customElements.define("notifications-toasts", Toasts);
}
