// One connection per browser: the tab that holds a lock is the leader and relays its frames to the others.

/**
 * @typedef {import("./client.js").Hooks} Hooks
 * @typedef {import("./client.js").Link} Link
 * @typedef {import("./client.js").Frame} Frame
 * @typedef {import("./connection.js").Clock} Clock
 * @typedef {{frame?: Frame, state?: string, who?: true}} Message
 */

const QUIET = 30_000;
const ANSWER = 3_000;

/** The link of a tab: the connection itself while it leads, the leader's frames while it follows. */
export class SharedLink {
  #options;
  /** @type {BroadcastChannel|null} */
  #channel = null;
  /** @type {BroadcastChannel|null} of a tab that was signed out */
  #watched = null;
  /** @type {Link|null} only of the leader */
  #connection = null;
  #state = "connecting";
  #timer = /** @type {any} */ (null);
  #running = false;
  #joined = false;
  /** @type {() => void} */
  #resign = () => undefined;
  #waiting = /** @type {AbortController|null} */ (null);

  /**
   * @param {object} options
   * @param {string} options.name of the lock and the channel: one per user and server
   * @param {LockManager} options.locks
   * @param {(name: string) => BroadcastChannel} options.channel
   * @param {(hooks: Hooks) => Link} options.connect makes the connection that a leader has
   * @param {{read: () => Promise<unknown>, check: () => Promise<boolean>}} options.poll catches up over HTTP, for a
   *   follower that misses something
   * @param {Clock} options.clock
   * @param {Hooks} options.hooks
   */
  constructor(options) {
    this.#options = options;
  }

  get leading() {
    return this.#connection !== null;
  }

  /** Idempotent. */
  start() {
    if (this.#running) return;
    this.#running = true;
    this.#joined = false;
    this.#unwatch();
    this.#channel = this.#options.channel(this.#options.name);
    this.#channel.onmessage = (event) => this.#hear(event.data);
    void this.#queue();
    this.#follow();
  }

  /** Idempotent. Whoever waits next becomes the leader. */
  stop() {
    this.#running = false;
    this.#unwatch();
    this.#options.clock.clearTimeout(this.#timer);
    this.#waiting?.abort();
    this.#abdicate();
    this.#channel?.close();
    this.#channel = null;
  }

  sync() {
    if (this.#connection) this.#connection.sync();
    else void this.#options.poll.read();
  }

  refresh() {
    if (this.#connection) this.#connection.refresh();
    else if (this.#state !== "live") void this.#options.poll.read();
  }

  nudge() {
    this.#connection?.nudge();
  }

  check() {
    return this.#options.poll.check();
  }

  /**
   * After stop(): says when another tab of this user is connected, until the next start() or stop().
   * @param {() => void} onLive
   */
  watch(onLive) {
    this.#unwatch();
    this.#watched = this.#options.channel(this.#options.name);
    this.#watched.onmessage = ({ data }) => data.state === "live" && onLive();
  }

  #unwatch() {
    this.#watched?.close();
    this.#watched = null;
  }

  /**
   * Waits for the lock, leads while it is held, and queues again when another tab took it by force.
   * @param {boolean} [steal]
   */
  async #queue(steal = false) {
    const { locks, name } = this.#options;
    const waiting = new AbortController();
    this.#waiting?.abort();
    this.#waiting = waiting;
    const lead = () => {
      if (waiting.signal.aborted || !this.#running) return;
      return new Promise((resolve) => this.#lead(() => resolve(undefined)));
    };
    try {
      await (steal
        ? locks.request(name, { steal }, lead)
        : locks.request(name, { signal: waiting.signal }, lead));
    } catch (error) {
      if (waiting.signal.aborted || !this.#running) return;
      // Not stolen but denied, as in a sandboxed frame: then each tab has a connection of its own.
      if (/** @type {Error} */ (error).name !== "AbortError") return this.#lead(() => undefined);
      this.#abdicate();
      void this.#queue();
      this.#follow();
    }
  }

  /** @param {() => void} resign releases the lock */
  #lead(resign) {
    this.#resign = resign;
    this.#options.clock.clearTimeout(this.#timer);
    this.#connection = this.#options.connect({
      position: this.#options.hooks.position,
      frame: (frame) => {
        this.#options.hooks.frame(frame);
        if (frame.op !== "welcome") this.#post({ frame });
      },
      state: (state) => {
        this.#post({ state });
        this.#become(state);
      },
    });
    this.#connection.start();
  }

  #abdicate() {
    this.#connection?.stop();
    this.#connection = null;
    this.#resign();
  }

  /** Asks for a sign of life: a leader that was suspended by its browser keeps the lock and says nothing. */
  #follow() {
    if (this.#connection) return;
    this.#post({ who: true });
    this.#listen(ANSWER, () => void this.#queue(true));
  }

  /** @param {Message} message */
  #hear(message) {
    if (this.#connection) {
      if (message.who) this.#post({ state: this.#state });
      return;
    }
    if (message.who) return;
    // It may be the leader's session alone that has ended, as the one before a new password: this tab asks with its own.
    if (message.state === "signed_out") return void this.#options.poll.read();
    if (message.state) this.#become(message.state);
    if (message.frame) this.#options.hooks.frame(message.frame);
    if (!this.#running) return;
    this.#listen(QUIET, () => this.#follow());
    if (!this.#joined) this.#join();
  }

  /** What the leader had before this tab came is read once over HTTP. */
  #join() {
    this.#joined = true;
    void this.#options.poll.read();
  }

  /**
   * @param {number} ms
   * @param {() => void} silent
   */
  #listen(ms, silent) {
    const { clock } = this.#options;
    clock.clearTimeout(this.#timer);
    this.#timer = clock.setTimeout(silent, ms);
  }

  /** @param {string} state */
  #become(state) {
    this.#state = state;
    this.#options.hooks.state(state);
  }

  /** @param {Message} message */
  #post(message) {
    this.#channel?.postMessage(message);
  }
}
