// Reads the stream over HTTP, where a WebSocket cannot be opened or a tab does not have one.

/**
 * @typedef {import("./client.js").Callbacks} Callbacks
 * @typedef {import("./client.js").Frame} Frame
 * @typedef {import("./connection.js").Clock} Clock
 */

const POLL_INTERVAL_MS = 15_000;
const REQUEST_TIMEOUT_MS = 30_000;

/** Reads `sync/` once on request, or every 15 s after start(). */
export class Poller {
  #options;
  #timer = /** @type {any} */ (null);
  #currentRead = /** @type {Promise<void>|null} */ (null);
  /** There is more to read, or may be since the last request began. */
  #hasMore = /** @type {boolean|undefined} */ (false);
  #lastAnswer = { position: "", etag: /** @type {string|null} */ ("") };

  /** @param {{url: string, fetch: typeof fetch, clock: Clock, callbacks: Callbacks}} options the URL has a query */
  constructor(options) {
    this.#options = options;
  }

  /** Idempotent. */
  start() {
    if (this.#timer !== null) return;
    const poll = () => {
      this.#timer = this.#options.clock.setTimeout(poll, POLL_INTERVAL_MS);
      void this.read();
    };
    poll();
  }

  stop() {
    this.#options.clock.clearTimeout(this.#timer);
    this.#timer = null;
    this.#lastAnswer.etag = ""; // After it, a listener may wait for a frame.
  }

  get isActive() {
    return this.#timer !== null;
  }

  /**
   * Catch up once. Concurrent calls share one read. Never rejects.
   * @param {boolean} [hasChanged] whether a request that is in flight may not know the last change
   */
  read(hasChanged) {
    if (hasChanged) this.#hasMore = true;
    this.#currentRead ??= this.#catchUp()
      .catch(() => this.#reportState("waiting"))
      .then(() => {
        this.#currentRead = null;
      });
    return this.#currentRead;
  }

  /** Start with a request that is sent from now on: an earlier one may belong to another session. Never rejects. */
  async confirm() {
    const timer = this.#timer;
    await this.#currentRead;
    if (timer && !this.#timer) return; // that read was the first of another call, and confirmed the user
    this.start();
    return this.read();
  }

  async #catchUp() {
    const { callbacks } = this.#options;
    do {
      this.#hasMore = false;
      const before = JSON.stringify(callbacks.getPosition());
      const response = await this.#request(before);
      if (response.status === 401) return callbacks.onState("signed_out");
      if (response.ok) {
        const frame = /** @type {Frame} */ (await response.json());
        if (isOutdated(frame, before, callbacks.getPosition())) this.#hasMore = true;
        else {
          callbacks.onFrame(frame);
          this.#reportState("polling"); // after the frame, which tells whether something was missed
          const after = JSON.stringify(callbacks.getPosition());
          this.#lastAnswer = { position: after, etag: frame.more ? "" : response.headers.get("ETag") };
          this.#hasMore ||= frame.more && after !== before;
        }
      } else this.#reportState(response.status === 304 ? "polling" : "waiting");
    } while (this.#hasMore);
  }

  /** @param {string} state */
  #reportState(state) {
    if (this.isActive) this.#options.callbacks.onState(state);
  }

  /** @param {string} position */
  #request(position) {
    const parameters = JSON.parse(position);
    const query = parameters.epoch === null ? "" : `&${new URLSearchParams(parameters)}`;
    /** @type {Record<string, string>} */
    const headers = { Accept: "application/json" };
    const { position: answered, etag } = this.#lastAnswer;
    if (etag && answered === position) headers["If-None-Match"] = etag;
    // Callers share one read: a request that hangs in a dead connection would block all of them.
    const signal = AbortSignal.timeout(REQUEST_TIMEOUT_MS);
    return this.#options.fetch(this.#options.url + query, { headers, signal });
  }
}

/**
 * Return whether the WebSocket, or the leading tab, reset the stream during the request: the frame would undo that.
 * @param {Frame} frame
 * @param {string} requested position
 * @param {import("./client.js").Position} current
 */
function isOutdated(frame, requested, current) {
  return JSON.stringify(current) !== requested && (frame.reset === true || frame.epoch !== current.epoch);
}
