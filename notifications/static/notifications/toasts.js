// <notifications-toasts>: shows notifications for a few seconds. ToastQueue decides which ones; what draws them (toast_list.js)
// is loaded for the first one.

/**
 * @typedef {import("./client.js").Notification} Notification
 * @typedef {import("./client.js").Change} Change
 * @typedef {import("./connection.js").Clock} Clock
 * @typedef {import("./notifications.js").Page} Page
 */

/** Missed notifications become toasts only if they are younger than this. */
const MAX_AGE_MS = 5 * 60_000;
/** Notifications that arrive within this time are shown together. */
const BATCH_WINDOW_MS = 100;
/** How long the browser remembers which notifications it has shown. */
const MEMORY_MS = 60 * 60_000;
/** How long a write to localStorage may take to reach the process of another tab. */
const STORAGE_DELAY_MS = 5_000;

/**
 * Passes each notification on once per browser, from a visible tab, if it is unread and either arrived live or is
 * younger than five minutes.
 */
export class ToastQueue {
  #options;
  #pending;
  #isWaiting = false;
  /** @type {Record<string, number>} */
  #memory = {};

  /**
   * @param {object} options
   * @param {string} options.name prefix of the keys and locks: one per user
   * @param {Page["pendingToasts"]} options.pendingToasts what is not shown yet, which the element that replaces this one shows
   * @param {(key: string) => any} options.readStored
   * @param {(key: string, value: object) => void} options.store
   * @param {LockManager|undefined} options.locks
   * @param {Clock} options.clock
   * @param {() => boolean} options.isVisible
   * @param {() => boolean} options.hasUnseen whether the user has notifications that no list has shown yet
   * @param {(item: Notification) => boolean} options.isUnread
   * @param {(item: Notification) => boolean} options.isShown whether the page itself shows what happened
   * @param {() => {epoch: string|null, cursor: number|null}} options.getPosition up to which the page has received all
   * @param {() => Promise<void>} options.prepare loads what `show` needs; what is pending stays so while it rejects
   * @param {(items: Notification[]) => void} options.show gets the oldest first
   */
  constructor(options) {
    this.#options = options;
    this.#pending = options.pendingToasts;
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
    if (this.#isWaiting || this.#pending.size === 0 || !this.#options.isVisible()) return;
    this.#isWaiting = true;
    this.#options.clock.setTimeout(() => this.#showPending(), BATCH_WINDOW_MS);
  }

  async #showPending() {
    const { isVisible, hasUnseen, prepare, show } = this.#options;
    try {
      // Before they are claimed: the page might be left meanwhile, and the next one then shows them.
      if (isVisible() && hasUnseen() && this.#findDue().length) await prepare();
    } catch {
      return; // They are shown with the next change.
    } finally {
      this.#isWaiting = false;
    }
    if (!isVisible()) return;
    // Meanwhile a list may have shown them, perhaps on another device.
    if (!hasUnseen()) this.#pending.clear();
    const batch = [...this.#pending.values()];
    const candidates = this.#findDue();
    const locked = await Promise.all(candidates.map((item) => this.#lock(item.id)));
    if (!isVisible()) return;
    // Claimed and shown without a pause, in which the page might be left, or its user sign out.
    const items = candidates.filter(
      ({ id }, index) => locked[index] && hasUnseen() && this.#pending.has(id) && this.#claim(id),
    );
    for (const entry of batch)
      if (this.#pending.get(entry.item.id) === entry) this.#pending.delete(entry.item.id);
    if (items.length) show(items.sort((a, b) => a.raised - b.raised));
    this.savePosition();
  }

  /** Return what is pending and may be shown. What this page shows is not claimed: another window may show it until it is read. */
  #findDue() {
    return [...this.#pending.values()]
      .filter(({ item, isLive }) => (isLive || this.#isRecent(item)) && !this.#options.isShown(item))
      .map(({ item }) => item);
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
  const { client, dom } = page;
  // Inside a header that is transformed or clipped, position: fixed would not be relative to the window.
  // At its beginning, the toasts come before the content in the order of the Tab key, after a link that skips to it.
  if (element.parentNode !== document.body) {
    const skipLink = document.querySelector("body > a[href^='#']:first-child");
    return skipLink ? skipLink.after(element) : document.body.prepend(element);
  }
  let list = /** @type {import("./toast_list.js").ToastList|null} */ (null);
  const queue = new ToastQueue({
    ...page,
    locks: navigator.locks,
    isVisible: () => document.visibilityState === "visible" && !signal.aborted,
    hasUnseen: () => Boolean(client.unseen), // null after a sign-out: the next user of the browser sees no toast
    isUnread: dom.isUnread,
    isShown: (item) => page.shownIds.has(item.id) || [...page.openLists].some((hasRow) => hasRow(item)),
    getPosition: () => client.stream,
    prepare: async () => {
      const { toast_list } = await page.loadModules("panel");
      if (!signal.aborted) list ??= toast_list.connectList(element, page, signal);
    },
    show: (items) => list?.show(items),
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
  addEventListener("pagehide", () => queue.savePosition(), { signal });
  signal.addEventListener(
    "abort",
    client.on("change", (change) => queue.add(change)),
  );
  queue.flush();
}
