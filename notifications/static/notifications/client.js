// Applies the frames of protocol notifications.v1 to what one page holds of its user's stream.
// Knows neither the DOM nor the network: a link (connection.js, tabs.js) brings the frames.

/**
 * @typedef {{kind: "notification", id: string, seq: number, raised: number, level: string, category: string,
 *   title: string, body: string, url: string|null, job: string|null, created_at: string,
 *   read_at: string|null, archived_at: string|null, data: Record<string, unknown>}} Notification
 * @typedef {{current: number, total: number|null, message: string}} Progress
 * @typedef {{type: string, title: string, detail?: string, status?: number}} ProblemDetails
 * @typedef {{kind: "job", id: string, seq: number, version: number, title: string, task: string, state: string,
 *   done: boolean, attempt: number, max_attempts: number, progress: Progress|null, created_at: string,
 *   started_at: string|null, finished_at: string|null, run_after: string|null, error: ProblemDetails|null,
 *   url: string|null, links: {self: string, result: string|null, cancel: string|null, retry: string|null}}} JobItem
 * @typedef {Notification|JobItem} Item
 * @typedef {{op: string, n?: number, ack?: boolean, epoch?: string, prev?: number|null, seq?: number,
 *   reset?: boolean, more?: boolean, unread?: number, items?: Item[], jobs?: JobItem[], code?: number,
 *   reason?: string, reconnect?: boolean, after_ms?: number}} Frame
 * @typedef {{epoch: string|null, seq: number|null}} Position
 * @typedef {{position: () => Position, frame: (frame: Frame) => void, state: (state: string) => void}} Hooks
 * @typedef {{start: () => void, stop: () => void, sync: () => void, refresh: () => void, nudge: () => void,
 *   check: () => Promise<boolean>, watch: (onLive: () => void) => void}} Link
 * @typedef {{op: string, reset: boolean, notifications: Notification[], jobs: JobItem[],
 *   listed: Set<string>|null}} Change
 */

const FINAL = new Set(["signed_out", "refused"]);

/** What is held of one stream: its position, the unread count, notifications and jobs by id. */
export class Stream {
  /** @param {{epoch?: string|null, seq?: number|null, unread?: number|null}} [start] */
  constructor({ epoch = null, seq = null, unread = null } = {}) {
    /** @type {string|null} */
    this.epoch = seq === null ? null : epoch;
    /** @type {number|null} */
    this.cursor = epoch === null ? null : seq;
    /** @type {number|null} null: not known yet. */
    this.unread = unread;
    /** @type {Map<string, Notification>} */
    this.notifications = new Map();
    /** @type {Map<string, JobItem>} */
    this.jobs = new Map();
  }

  /**
   * Takes a sync, change or jobs frame.
   * @param {Frame} frame
   * @returns {Change|null} what changed; null: something before this frame is missing, and nothing was taken.
   */
  apply(frame) {
    if (frame.op === "jobs") return this.#upsert(frame);
    if (frame.reset) return this.#restart(frame);
    if (this.cursor === null || /** @type {number} */ (frame.prev) > this.cursor) return null;
    const seq = /** @type {number} */ (frame.seq);
    if (seq >= this.cursor) this.unread = frame.unread ?? this.unread;
    this.cursor = Math.max(this.cursor, seq);
    if (frame.epoch) this.epoch = frame.epoch;
    return this.#upsert(frame);
  }

  /** @param {Frame} frame */
  #restart(frame) {
    this.notifications.clear();
    this.jobs.clear();
    this.epoch = frame.epoch ?? null;
    this.cursor = frame.seq ?? null;
    this.unread = frame.unread ?? null;
    return this.#upsert(frame);
  }

  /**
   * @param {Frame} frame
   * @returns {Change}
   */
  #upsert(frame) {
    /** @type {Change} */
    const change = { op: frame.op, reset: frame.reset === true, notifications: [], jobs: [], listed: null };
    for (const item of [...(frame.items ?? []), ...(frame.jobs ?? [])]) {
      if (item.kind === "notification") this.#hold(this.notifications, item, "seq", change.notifications);
      else if (item.kind === "job") this.#hold(this.jobs, item, "version", change.jobs);
    }
    if (frame.op === "sync" && !frame.more) change.listed = new Set((frame.jobs ?? []).map((job) => job.id));
    return change;
  }

  /**
   * @template {Item} T
   * @param {Map<string, T>} held
   * @param {T} item
   * @param {string} order the key that tells newer from older
   * @param {T[]} changed
   */
  #hold(held, item, order, changed) {
    const before = /** @type {any} */ (held.get(item.id));
    if (before && /** @type {any} */ (item)[order] < before[order]) return;
    held.set(item.id, item);
    changed.push(item);
  }
}

/**
 * A page's view of the stream. Events: "change" (detail: Change) and "state" (detail: "connecting", "live",
 * "waiting", "polling", "signed_out", "refused" or "stopped").
 */
export class Client extends EventTarget {
  /** @type {Link} */
  #link;
  #checking = false;

  /**
   * @param {object} options
   * @param {(hooks: Hooks) => Link} options.link
   * @param {{epoch?: string|null, seq?: number|null, unread?: number|null}} [options.start] position of the page
   */
  constructor({ link, start = {} }) {
    super();
    this.stream = new Stream(start);
    this.state = "stopped";
    this.#link = link({
      position: () => ({ epoch: this.stream.epoch, seq: this.stream.cursor }),
      frame: (frame) => this.#receive(frame),
      state: (state) => this.#become(state),
    });
  }

  get unread() {
    return this.stream.unread;
  }

  start() {
    this.#link.start();
  }

  stop() {
    this.#link.stop();
    this.#become("stopped");
  }

  /**
   * Tries now instead of later: the network is said to be back, or the page is looked at again. A client that was
   * signed out asks once whether its user is signed in again, and starts anew if so.
   */
  nudge() {
    if (this.state === "signed_out") void this.#resume();
    else this.#link.nudge();
  }

  async #resume() {
    if (this.#checking) return;
    this.#checking = true;
    const signedIn = await this.#link.check();
    this.#checking = false;
    if (!signedIn || this.state !== "signed_out") return;
    this.#become("connecting");
    this.#link.start();
  }

  /** Something was just changed over HTTP: where frames are not pushed, ask for them now. */
  refresh() {
    this.#link.refresh();
  }

  /**
   * @param {string} type
   * @param {(detail: any) => void} listener
   * @returns {() => void} ends the subscription
   */
  on(type, listener) {
    const handler = (/** @type {Event} */ event) => listener(/** @type {CustomEvent} */ (event).detail);
    this.addEventListener(type, handler);
    return () => this.removeEventListener(type, handler);
  }

  /**
   * Takes items that came in an HTTP answer; the position does not move.
   * @param {Item[]} items
   */
  merge(items) {
    this.#tell(this.stream.apply({ op: "jobs", items }));
  }

  /** @param {Frame} frame */
  #receive(frame) {
    if (frame.op === "beat") {
      if (this.stream.cursor !== null && frame.seq !== this.stream.cursor) this.#link.sync();
    } else if (frame.op === "sync" || frame.op === "change" || frame.op === "jobs") {
      const change = this.stream.apply(frame);
      if (change) this.#tell(change);
      else this.#link.sync();
    }
  }

  /** @param {Change|null} change */
  #tell(change) {
    this.dispatchEvent(new CustomEvent("change", { detail: change }));
  }

  /** @param {string} state */
  #become(state) {
    if (state === this.state) return;
    this.state = state;
    if (FINAL.has(state)) this.#link.stop();
    if (state === "signed_out") {
      this.stream = new Stream();
      this.#link.watch(() => this.nudge());
    }
    this.dispatchEvent(new CustomEvent("state", { detail: state }));
  }
}
