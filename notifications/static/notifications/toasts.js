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
   * @param {(key: string) => any} options.readStored
   * @param {(key: string, value: object) => void} options.store
   * @param {LockManager|undefined} options.locks
   * @param {Clock} options.clock
   * @param {() => boolean} options.isVisible
   * @param {() => boolean} options.hasUnseen whether the user has notifications that no list has shown yet
   * @param {(item: Notification) => boolean} options.isUnread
   * @param {(item: Notification) => boolean} options.isShown whether the page itself shows what happened
   * @param {() => {epoch: string|null, cursor: number|null}} options.getPosition up to which the page has received all
   * @param {(items: Notification[]) => void} options.show gets the oldest first
   */
  constructor(options) {
    this.#options = options;
  }

  /** @param {Change} change */
  add({ op, notifications }) {
    const { isVisible, isUnread } = this.#options;
    const isShownLive = op === "change" && isVisible();
    for (const item of notifications) {
      // Read over HTTP for a list, which shows it: it is no toast, here or in another tab, when its frame arrives.
      if (op === "jobs" || !isUnread(item)) {
        this.#pending.delete(item.id);
        if (isUnread(item)) void this.#lock(item.id).then((isLocked) => isLocked && this.#claim(item.id));
        continue;
      }
      // An old notification that is marked as unread moves in the stream too; its seq is above its raised then.
      const isLive = isShownLive && item.seq === item.raised;
      if (isLive || this.#isRecent(item)) this.#pending.set(item.id, { item, isLive });
    }
    // A tab may be hidden for days.
    for (const { item, isLive } of this.#pending.values())
      if (!isLive && !this.#isRecent(item)) this.#pending.delete(item.id);
    this.flush();
    this.savePosition();
  }

  /** Remember up to where this browser has shown everything: the next page starts from there. */
  savePosition() {
    const { clock, name, store, getPosition } = this.#options;
    const { epoch, cursor } = getPosition();
    const pending = [...this.#pending.values()].map(({ item }) => item.seq - 1);
    // Otherwise the next page starts from its own position.
    if (cursor !== null)
      store(`${name}:position`, { epoch, seq: Math.min(cursor, ...pending), at: clock.now() });
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
    const { isVisible, hasUnseen, isShown, show } = this.#options;
    if (!isVisible()) return;
    // Meanwhile a list may have shown them, perhaps on another device.
    if (!hasUnseen()) this.#pending.clear();
    // What this page shows is not claimed: another window may show it until it is read.
    const batch = [...this.#pending.values()];
    const candidates = batch
      .filter(({ item, isLive }) => (isLive || this.#isRecent(item)) && !isShown(item))
      .map(({ item }) => item);
    const locked = await Promise.all(candidates.map((item) => this.#lock(item.id)));
    // Claimed and shown without a pause, in which the page might be left.
    const items = candidates.filter(
      ({ id }, index) => locked[index] && this.#pending.has(id) && this.#claim(id),
    );
    for (const entry of batch)
      if (this.#pending.get(entry.item.id) === entry) this.#pending.delete(entry.item.id);
    if (items.length) show(items.sort((a, b) => a.raised - b.raised));
    this.savePosition();
  }

  /**
   * Lock a notification for this tab, for as long as a claim in localStorage may take to reach the process of another.
   * @param {string} id
   * @returns {Promise<boolean>} whether no other tab is about to claim it
   */
  async #lock(id) {
    const { locks, name, clock } = this.#options;
    if (!locks) return true;
    return new Promise((resolve) => {
      const hold = (/** @type {unknown} */ lock) => {
        resolve(lock !== null);
        if (lock) return new Promise((release) => clock.setTimeout(() => release(null), STORAGE_DELAY_MS));
      };
      locks.request(`${name}:toast:${id}`, { ifAvailable: true }, hold).catch(() => resolve(false));
    });
  }

  /**
   * @param {string} id
   * @returns {boolean} whether no tab of this browser has claimed it before
   */
  #claim(id) {
    const { clock, name, readStored, store } = this.#options;
    const now = clock.now();
    // Where storage is blocked or full, the claims hold for this tab only.
    const claims = Object.entries({ ...this.#memory, ...readStored(`${name}:shown`) });
    this.#memory = Object.fromEntries(claims.filter(([, time]) => now - time < MEMORY_MS));
    if (id in this.#memory) return false;
    this.#memory[id] = now;
    store(`${name}:shown`, this.#memory);
    return true;
  }

  /** @param {Notification} item */
  #isRecent(item) {
    return this.#options.clock.now() - Date.parse(item.created_at) < MAX_AGE_MS;
  }
}

/**
 * Show toasts in an element.
 * @param {HTMLElement} element
 * @param {Page} page
 * @param {AbortSignal} signal aborted when the element is removed
 */
export function connectElement(element, page, signal) {
  const { client, localization, dom, clock } = page;
  // Inside a header that is transformed or clipped, position: fixed would not be relative to the window.
  // At its beginning, the toasts come before the content in the order of the Tab key, after a link that skips to it.
  if (element.parentNode !== document.body) {
    const skipLink = document.querySelector("body > a[href^='#']:first-child");
    return skipLink ? skipLink.after(element) : document.body.prepend(element);
  }
  /** @type {Toast[]} */
  let toasts = [];
  /** What had the focus before F8. */
  let returnTarget = /** @type {Element|null} */ (null);
  const queue = new ToastQueue({
    ...page,
    locks: navigator.locks,
    isVisible: () => document.visibilityState === "visible",
    hasUnseen: () => Boolean(client.unseen), // null after a sign-out: the next user of the browser sees no toast
    isUnread: dom.isUnread,
    isShown: ({ id }) => page.shownIds.has(id),
    getPosition: () => client.stream,
    show,
  });
  // What came while the tab was hidden is shown when the server has confirmed the user.
  document.addEventListener(
    "visibilitychange",
    async () => {
      await client.checkConnection();
      queue.flush();
    },
    { signal },
  );
  document.addEventListener("keydown", handleKey, { signal });
  // An opened bell shows what the toasts show. The event of a popover does not bubble.
  document.addEventListener("toggle", clearForBell, { signal, capture: true });
  addEventListener("pagehide", () => queue.savePosition(), { signal });
  for (const stop of [
    client.on("change", handleChange),
    client.on("state", (state) => state === "signed_out" && clear()),
    clear,
  ])
    signal.addEventListener("abort", stop);

  /**
   * Show each notification as a toast, or all as one summary if there are more than three.
   * @param {Notification[]} items
   */
  function show(items) {
    const init = { bubbles: true, cancelable: true, detail: items };
    if (!element.dispatchEvent(new CustomEvent("notifications:toast", init))) return;
    const all = [...toasts.flatMap((toast) => toast.items), ...items];
    if (all.length > MAX_TOASTS || toasts.some((toast) => toast.items.length > 1)) {
      clear();
      add(all);
    } else {
      for (const item of items) add([item]);
    }
  }

  /** @param {Event} event */
  function clearForBell({ target }) {
    if (/** @type {Element} */ (target).matches(".notifications-panel:popover-open")) clear();
  }

  function clear() {
    for (const toast of [...toasts]) remove(toast);
  }

  /** @param {Change} change */
  function handleChange(change) {
    const readIds = new Set(
      change.notifications.filter((item) => !dom.isUnread(item)).map((item) => item.id),
    );
    for (const toast of [...toasts]) if (toast.items.every((item) => readIds.has(item.id))) remove(toast);
    queue.add(change);
  }

  /** @param {Notification[]} items one notification, or several for a summary */
  function add(items) {
    const [first] = items;
    const count = items.length;
    const isError = items.some((item) => item.level === "error");
    const isAlert = isError || items.some((item) => item.level === "warning");
    const node = dom.createElement("div", "notifications-toast");
    node.dataset.level = count === 1 ? first.level : isError ? "error" : "info";
    const toast = { items, node, timer: /** @type {any} */ (null) };
    const button = dom.createElement("button", "notifications-close");
    button.ariaLabel = localization.text("dismiss");
    button.addEventListener("click", () => dismiss(toast));
    const actions = count === 1 && dom.createActions(first, page.getActionUrl);
    node.append(
      count === 1
        ? dom.createSummary(first, page)
        : dom.createLink("notifications-title", localization.text("summary", { count }), page.inboxUrl),
      button,
      ...(actions ? [actions] : []),
    );
    if (!toasts.length)
      node.append(dom.createElement("span", "notifications-hidden", localization.text("toasts_key")));
    toasts.push(toast);
    element.querySelector(isAlert ? "[role=alert]" : "[role=status]")?.append(node);
    if (!isError && !items.some(dom.isOpenQuestion)) startTimer(toast);
  }

  /**
   * Remove a toast after 8 s. Hover and focus stop the timer; it starts again from 8 s when both have ended.
   * @param {Toast} toast
   */
  function startTimer(toast) {
    const { node } = toast;
    const stop = () => clock.clearTimeout(toast.timer);
    const restart = () => {
      stop();
      if (!node.matches(":hover, :focus-within"))
        toast.timer = clock.setTimeout(() => remove(toast), TOAST_DURATION_MS);
    };
    for (const type of ["mouseenter", "focusin"]) node.addEventListener(type, stop);
    for (const type of ["mouseleave", "focusout"]) node.addEventListener(type, () => setTimeout(restart));
    restart();
  }

  /**
   * F8 moves the focus to the newest toast, and back from the toasts. Escape dismisses a toast.
   * @param {KeyboardEvent} event
   */
  function handleKey(event) {
    const { key, defaultPrevented } = event;
    const focused = document.activeElement;
    if (defaultPrevented || !toasts.length) return;
    if (key === "F8") {
      event.preventDefault();
      if (element.contains(focused)) return returnFocus();
      returnTarget = focused;
      focusNewest();
    }
    if (key !== "Escape" || document.querySelector("[popover]:popover-open, dialog[open]")) return;
    dismiss(toasts.find((toast) => toast.node.contains(focused)) ?? toasts[toasts.length - 1]);
  }

  /** @param {Toast} toast */
  function dismiss(toast) {
    const hadFocus = toast.node.contains(document.activeElement);
    remove(toast);
    if (!hadFocus) return;
    if (toasts.length) focusNewest();
    else returnFocus();
  }

  function focusNewest() {
    const target = toasts.at(-1)?.node.querySelector("a, button");
    /** @type {HTMLElement|null|undefined} */ (target)?.focus();
  }

  function returnFocus() {
    /** @type {HTMLElement|null} */ (returnTarget)?.focus?.();
  }

  /** @param {Toast} toast */
  function remove(toast) {
    clock.clearTimeout(toast.timer);
    toast.node.remove();
    toasts = toasts.filter((other) => other !== toast);
  }
}
