// Delivers frames over a WebSocket that reconnects by itself.

/**
 * @typedef {import("./client.js").Callbacks} Callbacks
 * @typedef {import("./client.js").Frame} Frame
 * @typedef {import("./polling.js").Poller} Poller
 * @typedef {{now: () => number, setTimeout: (callback: () => void, ms: number) => any,
 *   clearTimeout: (timer: any) => void}} Clock
 */

const SUBPROTOCOL = "notifications.v1";
const OPEN_TIMEOUT_MS = 20_000;
const FRAME_TIMEOUT_MS = 60_000;
const PING_TIMEOUT_MS = 5_000;
const MIN_BACKOFF_MS = 3_000;
const MAX_BACKOFF_MS = 30_000;
/** A connection that lasted this long resets the backoff. */
const HEALTHY_AFTER_MS = 30_000;
const TOO_MANY_CODE = 4429;
const TOO_MANY_WAIT_MS = 30_000;
const FAILURES_BEFORE_POLLING = 2;
const ABNORMAL_CLOSURE = 1006;

/** @type {Record<number, string>} Close codes after which the client does not reconnect, and its state then. */
const FINAL_STATE_BY_CODE = { 4400: "refused", 4401: "signed_out", 4409: "refused" };

/** A WebSocket that is opened again whenever it ends, unless the server forbids it. */
export class Connection {
  #options;
  #poller;
  #socket = /** @type {WebSocket|null} */ (null);
  #bye = /** @type {Frame|null} */ (null);
  #reconnectTimer = /** @type {any} */ (null);
  #watchdog = /** @type {any} */ (null);
  #isThrottled = false;
  #isSyncRequested = false;
  #isRunning = false;
  #attempt = 0;
  #failures = 0;
  #liveSince = /** @type {number|null} */ (null);

  /**
   * @param {object} options
   * @param {string} options.url
   * @param {(url: string, protocols: string[]) => WebSocket} options.openSocket
   * @param {Poller} options.poller reads the stream while no socket can be opened
   * @param {boolean} options.hasUser whether `sync/` answers the poller for the user of the page only
   * @param {Clock} options.clock
   * @param {() => number} options.random returns a number from 0 to 1
   * @param {Callbacks} options.callbacks
   */
  constructor(options) {
    this.#options = options;
    this.#poller = options.poller;
  }

  /** Idempotent. */
  start() {
    if (this.#isRunning) return;
    this.#isRunning = true;
    this.#poller.stop();
    this.#connect();
  }

  /** Idempotent. */
  stop() {
    this.#isRunning = false;
    this.#options.clock.clearTimeout(this.#reconnectTimer);
    this.#reconnectTimer = null;
    this.#poller.stop();
    this.#detachSocket()?.close();
  }

  /** Request what follows the position. Sends nothing while an earlier request is unanswered. */
  sync() {
    if (this.#liveSince === null) {
      if (this.#poller.isActive) void this.#poller.read();
    } else if (!this.#isSyncRequested) {
      this.#isSyncRequested = true;
      this.#send({ op: "sync", seq: this.#options.callbacks.getPosition().seq });
    }
  }

  refresh() {
    if (this.#liveSince === null) void this.#poller.read(true);
  }

  checkConnection() {
    if (!this.#isRunning || this.#isThrottled) return;
    if (this.#reconnectTimer !== null) {
      this.#options.clock.clearTimeout(this.#reconnectTimer);
      this.#connect();
    } else if (this.#liveSince !== null) {
      this.#send({ op: "ping" });
      this.#expectFrame(PING_TIMEOUT_MS);
      // The socket belongs to the session that opened it; the cookie may be another user's meanwhile. Without the mark
      // of a user, the answer could be of the other one.
      if (this.#options.hasUser) return this.#poller.read();
    }
  }

  confirmUser() {
    return this.#poller.confirm();
  }

  watchOtherTabs() {} // Without a shared connection a tab learns nothing of the others.

  #connect() {
    this.#reconnectTimer = null;
    this.#isThrottled = false;
    if (!this.#poller.isActive) this.#options.callbacks.onState("connecting");
    let socket;
    try {
      socket = this.#options.openSocket(this.#options.url, [SUBPROTOCOL]);
    } catch {
      return this.#handleEnd(ABNORMAL_CLOSURE); // A Content-Security-Policy may forbid the socket.
    }
    this.#socket = socket;
    socket.onopen = () => {
      this.#isSyncRequested = true;
      this.#send({ op: "hello", ...this.#options.callbacks.getPosition() });
    };
    socket.onmessage = (event) => this.#receive(event.data);
    socket.onclose = (event) => this.#handleEnd(event.code);
    this.#expectFrame(OPEN_TIMEOUT_MS);
  }

  /** @param {unknown} data */
  #receive(data) {
    this.#expectFrame(FRAME_TIMEOUT_MS);
    const frame = parseFrame(data);
    if (!frame) return;
    if (frame.op === "welcome") this.#handleWelcome();
    else if (frame.op === "bye") this.#bye = frame;
    else {
      if (frame.op === "sync") this.#isSyncRequested = false;
      this.#options.callbacks.onFrame(frame);
    }
    if (frame.ack === true) this.#send({ op: "ack", n: frame.n });
  }

  #handleWelcome() {
    this.#liveSince = this.#options.clock.now();
    this.#poller.stop();
    this.#options.callbacks.onState("live");
  }

  /** @param {number} closeCode */
  #handleEnd(closeCode) {
    const { clock, callbacks } = this.#options;
    const bye = this.#bye;
    this.#failures = this.#liveSince === null ? this.#failures + 1 : 0;
    if (this.#liveSince !== null && clock.now() - this.#liveSince >= HEALTHY_AFTER_MS) this.#attempt = 0;
    this.#detachSocket();
    const code = bye?.code ?? closeCode;
    const finalState = FINAL_STATE_BY_CODE[code] ?? (bye?.reconnect === false ? "refused" : null);
    if (finalState) return callbacks.onState(finalState);
    this.#isThrottled = code === TOO_MANY_CODE;
    const delay = this.#reconnectDelay(code, bye?.after_ms ?? 0);
    this.#reconnectTimer = clock.setTimeout(() => this.#connect(), delay);
    if (this.#failures >= FAILURES_BEFORE_POLLING) this.#poller.start();
    if (!this.#poller.isActive) callbacks.onState("waiting");
  }

  /**
   * @param {number} code
   * @param {number} requestedMs the delay that the server requested, or 0
   */
  #reconnectDelay(code, requestedMs) {
    const { random } = this.#options;
    if (code === TOO_MANY_CODE) return Math.max(requestedMs, TOO_MANY_WAIT_MS) + random() * MIN_BACKOFF_MS;
    if (requestedMs > 0) return requestedMs + (random() * requestedMs) / 4;
    const backoff = Math.min(MIN_BACKOFF_MS * 2 ** this.#attempt, MAX_BACKOFF_MS);
    this.#attempt += 1;
    return random() * backoff;
  }

  /**
   * Treat the connection as lost if no frame arrives in time.
   * @param {number} ms
   */
  #expectFrame(ms) {
    const { clock } = this.#options;
    clock.clearTimeout(this.#watchdog);
    this.#watchdog = clock.setTimeout(() => {
      const socket = this.#socket;
      this.#handleEnd(ABNORMAL_CLOSURE); // The close event of a dead connection may take minutes.
      socket?.close();
    }, ms);
  }

  /** Remove the listeners of the socket, so that its later events have no effect. */
  #detachSocket() {
    this.#options.clock.clearTimeout(this.#watchdog);
    const socket = this.#socket;
    if (socket) {
      socket.onopen = null;
      socket.onmessage = null;
      socket.onclose = null;
    }
    this.#socket = null;
    this.#bye = null;
    this.#liveSince = null;
    this.#isSyncRequested = false;
    return socket;
  }

  /** @param {object} frame */
  #send(frame) {
    if (this.#socket?.readyState === 1) this.#socket.send(JSON.stringify(frame));
  }
}

/**
 * @param {unknown} data
 * @returns {Frame|null}
 */
function parseFrame(data) {
  try {
    const frame = JSON.parse(String(data));
    return frame !== null && typeof frame === "object" ? frame : null;
  } catch {
    return null;
  }
}
