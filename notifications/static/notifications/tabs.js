// Shares one connection between the tabs of a browser: the tab that holds a Web Lock is the leader, connects, and
// relays its frames to the other tabs over a BroadcastChannel.

/**
 * @typedef {import("./client.js").Callbacks} Callbacks
 * @typedef {import("./client.js").Transport} Transport
 * @typedef {import("./client.js").Frame} Frame
 * @typedef {import("./connection.js").Clock} Clock
 * @typedef {{frame?: Frame, state?: string, requestState?: true}} Message requestState: asks the leader to post its state
 */

/**
 * A leader that relays nothing for this long is asked whether it is alive: often by a tab that people see; by a hidden
 * one only when the server's beat of every 25 s is missing.
 */
const LEADER_SILENCE_MS = 1_000;
const HIDDEN_LEADER_SILENCE_MS = 30_000;
const LEADER_ANSWER_TIMEOUT_MS = 3_000;

/** The transport of one tab: its own connection while it is the leader, the leader's messages otherwise. */
export class SharedConnection {
  #options;
  /** @type {BroadcastChannel|null} */
  #channel = null;
  /** @type {BroadcastChannel|null} open only after the user was signed out */
  #watchChannel = null;
  /** @type {Transport|null} open only in the leader */
  #connection = null;
  #state = "connecting";
  #leaderTimer = /** @type {any} */ (null);
  #isRunning = false;
  #hasCaughtUp = false;
  /** @type {() => void} */
  #releaseLock = () => undefined;
  #lockRequest = /** @type {AbortController|null} */ (null);

  /**
   * @param {object} options
   * @param {string} options.name of the lock and the channel: one per user and server
   * @param {LockManager} options.locks
   * @param {(name: string) => BroadcastChannel} options.createChannel
   * @param {(callbacks: Callbacks) => Transport} options.createConnection called in the leader
   * @param {import("./polling.js").Poller} options.poller catches up over HTTP when a follower misses a frame
   * @param {Clock} options.clock
   * @param {() => boolean} options.isVisible
   * @param {Callbacks} options.callbacks
   */
  constructor(options) {
    this.#options = options;
  }

  get isLeader() {
    return this.#connection !== null;
  }

  /** Idempotent. */
  start() {
    if (this.#isRunning) return;
    this.#isRunning = true;
    this.#hasCaughtUp = false;
    this.#options.poller.stop();
    this.#closeWatchChannel();
    this.#channel = this.#options.createChannel(this.#options.name);
    this.#channel.onmessage = (event) => this.#receive(event.data);
    void this.#requestLock();
    this.#checkLeader();
  }

  /** Give up leadership; the tab that waits next for the lock becomes the leader. Idempotent. */
  stop() {
    this.#isRunning = false;
    this.#options.poller.stop();
    this.#closeWatchChannel();
    this.#options.clock.clearTimeout(this.#leaderTimer);
    this.#lockRequest?.abort();
    this.#stopLeading();
    this.#channel?.close();
    this.#channel = null;
  }

  sync() {
    if (this.#connection) this.#connection.sync();
    else void this.#options.poller.read();
  }

  refresh() {
    if (this.#connection) this.#connection.refresh();
    else if (this.#state !== "live") void this.#options.poller.read(true);
  }

  checkConnection() {
    if (this.#connection) return this.#connection.checkConnection();
    if (this.#isRunning) this.#checkLeader();
    return this.#options.poller.read();
  }

  confirmUser() {
    return this.#options.poller.confirm();
  }

  /**
   * After stop(), call back when another tab of this user is connected, until the next start() or stop().
   * @param {() => void} onLive
   */
  watchOtherTabs(onLive) {
    this.#closeWatchChannel();
    this.#watchChannel = this.#options.createChannel(this.#options.name);
    this.#watchChannel.onmessage = ({ data }) => data.state === "live" && onLive();
  }

  #closeWatchChannel() {
    this.#watchChannel?.close();
    this.#watchChannel = null;
  }

  /**
   * Lead while this tab holds the lock, and request it again when another tab has stolen it.
   * @param {boolean} [steal]
   */
  async #requestLock(steal = false) {
    const { locks, name } = this.#options;
    const request = new AbortController();
    this.#lockRequest?.abort();
    this.#lockRequest = request;
    const hold = () => {
      if (request.signal.aborted || !this.#isRunning) return;
      return new Promise((resolve) => this.#lead(() => resolve(undefined)));
    };
    try {
      await (steal
        ? locks.request(name, { steal }, hold)
        : locks.request(name, { signal: request.signal }, hold));
    } catch (error) {
      if (request.signal.aborted || !this.#isRunning) return;
      // AbortError: stolen. Otherwise locks are denied, as in a sandboxed frame: each tab has its own connection.
      if (/** @type {Error} */ (error).name !== "AbortError") return this.#lead(() => undefined);
      this.#stopLeading();
      void this.#requestLock();
      this.#checkLeader();
    }
  }

  /** @param {() => void} releaseLock */
  #lead(releaseLock) {
    this.#releaseLock = releaseLock;
    this.#options.clock.clearTimeout(this.#leaderTimer);
    this.#connection = this.#options.createConnection({
      getPosition: this.#options.callbacks.getPosition,
      onFrame: (frame) => {
        this.#options.callbacks.onFrame(frame);
        if (frame.op !== "welcome") this.#post({ frame });
      },
      onState: (state) => {
        this.#post({ state });
        this.#setState(state);
      },
    });
    this.#connection.start();
  }

  #stopLeading() {
    this.#connection?.stop();
    this.#connection = null;
    this.#releaseLock();
  }

  /** Take the lock by force if the leader does not answer: a tab that the browser has frozen keeps its lock. */
  #checkLeader() {
    if (this.#connection) return;
    this.#post({ requestState: true });
    this.#expectLeader(LEADER_ANSWER_TIMEOUT_MS, () => void this.#requestLock(true));
  }

  /** @param {Message} message */
  #receive(message) {
    if (this.#connection) {
      if (message.requestState) this.#post({ state: this.#state });
      return;
    }
    if (message.requestState || !this.#isRunning) return;
    // Perhaps only the leader's session has ended, as after a change of password: check with this tab's own session.
    if (message.state === "signed_out") return void this.#options.poller.read();
    if (message.state) this.#setState(message.state);
    if (message.frame) this.#options.callbacks.onFrame(message.frame);
    if (!this.#isRunning) return;
    const silence = this.#options.isVisible() ? LEADER_SILENCE_MS : HIDDEN_LEADER_SILENCE_MS;
    this.#expectLeader(silence, () => this.#checkLeader());
    if (!this.#hasCaughtUp) this.#catchUp();
  }

  /** Read over HTTP what the leader received before this tab was opened. */
  #catchUp() {
    this.#hasCaughtUp = true;
    void this.#options.poller.read();
  }

  /**
   * @param {number} ms
   * @param {() => void} onTimeout
   */
  #expectLeader(ms, onTimeout) {
    const { clock } = this.#options;
    clock.clearTimeout(this.#leaderTimer);
    this.#leaderTimer = clock.setTimeout(onTimeout, ms);
  }

  /** @param {string} state */
  #setState(state) {
    this.#state = state;
    this.#options.callbacks.onState(state);
  }

  /** @param {Message} message */
  #post(message) {
    this.#channel?.postMessage(message);
  }
}
