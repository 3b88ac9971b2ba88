// Applies frames of the protocol notifications.v1 to the notifications and jobs that one page holds.
// Uses neither the DOM nor the network: a transport (connection.js, tabs.js) delivers the frames.

/**
 * @typedef {{id: string, ended: object|null, url: string|null, links: {answer: string, page: string|null}}} Question
 * @typedef {{kind: "notification", id: string, seq: number, raised: number, level: string, category: string,
 *   title: string, body: string, url: string|null, job: string|null, created_at: string,
 *   read_at: string|null, archived_at: string|null, data: Record<string, unknown> & {question?: Question}}} Notification
 * @typedef {{current: number, total: number|null, message: string}} Progress
 * @typedef {{id: string, kind: string, title: string, expires_at: string|null, choices: Record<string, string>|null,
 *   links: {answer: string|null, page: string}}} Waiting
 * @typedef {{type: string, title: string, detail?: string, status?: number,
 *   errors?: Record<string, any>|any[]}} ProblemDetails
 * @typedef {{kind: "job", id: string, seq: number, version: number, title: string, task: string, state: string,
 *   done: boolean, attempt: number, max_attempts: number, progress: Progress|null, created_at: string,
 *   started_at: string|null, finished_at: string|null, run_after: string|null, expires_at: string|null, error: ProblemDetails|null,
 *   url: string|null, waiting: Waiting|null,
 *   links: {self: string, result: string|null, cancel: string|null, retry: string|null}}} JobItem
 * @typedef {Notification|JobItem} Item
 * @typedef {{op: string, n?: number, ack?: boolean, epoch?: string, prev?: number|null, seq?: number,
 *   reset?: boolean, more?: boolean, unread?: number, unseen?: number, items?: Item[], jobs?: JobItem[],
 *   code?: number, reason?: string, reconnect?: boolean, after_ms?: number}} Frame
 * @typedef {{epoch: string|null, seq: number|null}} Position
 * @typedef {{getPosition: () => Position, onFrame: (frame: Frame) => void, onState: (state: string) => void}} Callbacks
 * @typedef {{start: () => void, stop: () => void, sync: () => void, refresh: () => void,
 *   checkConnection: () => Promise<unknown>|void, confirmUser: () => Promise<unknown>|void,
 *   watchOtherTabs: (onLive: () => void) => void}} Transport
 * @typedef {{op: string, reset: boolean, notifications: Notification[], jobs: JobItem[],
 *   activeIds: Set<string>|null}} Change activeIds: the ids of all active jobs, in the last frame of a catch-up
 */

/** A page holds this many notifications, those raised last, and as many finished jobs; active jobs are all held. */
const MAX_HELD = 500;
const FINAL_STATES = new Set(["signed_out", "refused"]);

/** The part of a user's stream that a page holds: position, counts, notifications and jobs by id. */
export class Stream {
  /** @param {{epoch?: string|null, seq?: number|null, unread?: number|null, unseen?: number|null}} [start] */
  constructor({ epoch = null, seq = null, unread = null, unseen = null } = {}) {
    /** @type {string|null} */
    this.epoch = seq === null ? null : epoch;
    /** @type {number|null} */
    this.cursor = epoch === null ? null : seq;
    /** @type {number|null} null until the first frame says it */
    this.unread = unread;
    /** @type {number|null} how many of the unread were raised since the list was shown last */
    this.unseen = unseen;
    /** @type {Map<string, Notification>} */
    this.notifications = new Map();
    /** @type {Map<string, JobItem>} */
    this.jobs = new Map();
    this.hasCaughtUp = false;
  }

  /**
   * Apply a sync, change or jobs frame.
   * @param {Frame} frame
   * @returns {Change|null} what changed, or null if an earlier frame is missing and nothing was applied
   */
  apply(frame) {
    if (frame.op === "jobs") return this.#upsert(frame);
    if (frame.reset) return this.#reset(frame);
    if (this.cursor === null || /** @type {number} */ (frame.prev) > this.cursor) return null;
    const seq = /** @type {number} */ (frame.seq);
    if (seq >= this.cursor) {
      this.unread = frame.unread ?? this.unread;
      this.unseen = frame.unseen ?? this.unseen;
    }
    this.cursor = Math.max(this.cursor, seq);
    if (frame.epoch) this.epoch = frame.epoch;
    return this.#upsert(frame);
  }

  /** @param {Frame} frame */
  #reset(frame) {
    const knownJobs = this.jobs;
    this.notifications = new Map();
    this.jobs = new Map();
    this.epoch = frame.epoch ?? null;
    this.cursor = frame.seq ?? null;
    this.unread = frame.unread ?? null;
    this.unseen = frame.unseen ?? null;
    return this.#upsert(frame, knownJobs);
  }

  /**
   * @param {Frame} frame
   * @param {Map<string, JobItem>} [knownJobs] those of which the listeners have got a version
   * @returns {Change}
   */
  #upsert(frame, knownJobs = this.jobs) {
    /** @type {Change} */
    const change = {
      op: frame.op,
      reset: frame.reset === true,
      notifications: [],
      jobs: [],
      activeIds: null,
    };
    for (const item of [...(frame.items ?? []), ...(frame.jobs ?? [])]) {
      if (item.kind === "notification" && isCurrent(item, this.notifications, "seq")) {
        this.notifications.set(item.id, item);
        change.notifications.push(item);
      } else if (item.kind === "job" && isCurrent(item, this.jobs, "version")) {
        if (item.version !== knownJobs.get(item.id)?.version) change.jobs.push(item);
        this.jobs.set(item.id, item);
      }
    }
    dropOldest(this.notifications, "raised");
    dropOldest(this.jobs, "seq");
    if (frame.op === "sync" && !frame.more) {
      this.hasCaughtUp = true;
      change.activeIds = new Set((frame.jobs ?? []).map((job) => job.id));
    }
    return change;
  }
}

/**
 * Connects a page to its user's stream. Events: "change" (detail: Change), "unseen" (detail: the new count) and "state"
 * (detail: "connecting", "live", "waiting", "polling", "signed_out", "refused" or "stopped").
 */
export class Client extends EventTarget {
  /** @type {Transport} */
  #transport;
  #isRunning = false;
  #isConfirming = false;

  /**
   * @param {object} options
   * @param {(callbacks: Callbacks) => Transport} options.createTransport
   * @param {{epoch?: string|null, seq?: number|null, unread?: number|null, unseen?: number|null}} [options.start]
   *   position of the page
   */
  constructor({ createTransport, start = {} }) {
    super();
    this.stream = new Stream(start);
    this.state = "stopped";
    this.#transport = createTransport({
      getPosition: () => ({ epoch: this.stream.epoch, seq: this.stream.cursor }),
      onFrame: (frame) => this.#receive(frame),
      onState: (state) => this.#handleState(state),
    });
  }

  get unread() {
    return this.stream.unread;
  }

  get unseen() {
    return this.stream.unseen;
  }

  start() {
    this.#isRunning = true;
    if (this.#isConfirming) void this.#transport.confirmUser();
    else this.#transport.start();
  }

  stop() {
    this.#isRunning = false;
    this.#transport.stop();
    this.#setState("stopped");
  }

  /**
   * Reconnect now if the client waits to do so, test a connection that is open, and have the server confirm the user.
   * Called when the browser reports that the network is back, and when the page gets the focus. A client that was signed
   * out starts from a snapshot if its user is signed in again.
   */
  checkConnection() {
    const isConfirmed = this.state !== "signed_out" && !this.#isConfirming;
    return isConfirmed ? this.#transport.checkConnection() : this.confirmUser();
  }

  /**
   * Have no connection until the server has confirmed that the user of the page is the one who is signed in. It is asked
   * again every 15 s while it does not answer.
   */
  confirmUser() {
    if (!this.#isConfirming && this.state !== "signed_out") {
      this.#transport.stop();
      this.#setState("connecting");
    }
    this.#isConfirming = true;
    return this.#transport.confirmUser();
  }

  /** @param {string} state of the transport */
  #handleState(state) {
    if (!this.#isRunning) return this.#transport.stop();
    const isConfirming = this.#isConfirming;
    this.#isConfirming = isConfirming && state === "waiting";
    if (this.#isConfirming && this.state === "signed_out") return;
    const isConfirmed = isConfirming && state === "polling";
    this.#setState(isConfirmed ? "connecting" : state);
    if (isConfirmed) this.#transport.start();
  }

  /** Read the stream now where no frames are pushed. Called after the page changed something over HTTP. */
  refresh() {
    this.#transport.refresh();
  }

  /**
   * @param {string} type
   * @param {(detail: any) => void} listener
   * @returns {() => void} removes the listener
   */
  on(type, listener) {
    const handler = (/** @type {Event} */ event) => listener(/** @type {CustomEvent} */ (event).detail);
    this.addEventListener(type, handler);
    return () => this.removeEventListener(type, handler);
  }

  /**
   * Add items of an HTTP response to the stream. The position does not move.
   * @param {Item[]} items
   */
  merge(items) {
    this.#emit("change", this.stream.apply({ op: "jobs", items }));
  }

  /** @param {Frame} frame */
  #receive(frame) {
    if (frame.op === "beat") {
      if (this.stream.cursor !== null && frame.seq !== this.stream.cursor) this.#transport.sync();
    } else if (frame.op === "sync" || frame.op === "change" || frame.op === "jobs") {
      const { unseen } = this;
      const change = this.stream.apply(frame);
      if (change) this.#emit("change", change);
      else this.#transport.sync();
      if (unseen !== this.unseen) this.#emit("unseen", this.unseen);
    }
  }

  /**
   * @param {string} type
   * @param {unknown} detail
   */
  #emit(type, detail) {
    this.dispatchEvent(new CustomEvent(type, { detail }));
  }

  /** @param {string} state */
  #setState(state) {
    if (FINAL_STATES.has(state)) this.#transport.stop();
    if (state === "signed_out") this.#transport.watchOtherTabs(() => this.checkConnection());
    if (state === this.state) return;
    this.state = state;
    if (state === "signed_out") {
      this.stream = new Stream();
      this.#emit("unseen", null);
    }
    this.#emit("state", state);
  }
}

/**
 * Return whether an item is at least as new as the one that is held.
 * @template {Item} T
 * @param {T} item
 * @param {Map<string, T>} held
 * @param {keyof T} order the property that grows with each change
 */
function isCurrent(item, held, order) {
  const known = held.get(item.id);
  return known === undefined || item[order] >= known[order];
}

/**
 * Drop the oldest items, but no active job, if too many are held.
 * @param {Map<string, any>} held
 * @param {string} order
 */
function dropOldest(held, order) {
  const items = [...held.values()].filter((item) => item.done !== false);
  items.sort((a, b) => b[order] - a[order]);
  for (const { id } of items.slice(MAX_HELD)) held.delete(id);
}
