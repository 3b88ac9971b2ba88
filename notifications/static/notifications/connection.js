// Brings frames from the server: a WebSocket that comes back by itself, and polling where none can be opened.

/**
 * @typedef {import("./client.js").Hooks} Hooks
 * @typedef {import("./client.js").Frame} Frame
 * @typedef {{now: () => number, setTimeout: (run: () => void, ms: number) => any,
 *   clearTimeout: (timer: any) => void}} Clock
 */

const SUBPROTOCOL = "notifications.v1";
const OPENING = 20_000;
const SILENCE = 60_000;
const PROBE = 5_000;
const FIRST_WAIT = 3_000;
const LONGEST_WAIT = 30_000;
const HEALTHY = 30_000;
const TOO_MANY = 4429;
const TOO_MANY_WAIT = 30_000;
const POLL_EVERY = 15_000;
const POLL_WITHIN = 30_000;
const FAILURES_BEFORE_POLLING = 2;

/** @type {Record<number, string>} Close codes after which a client does not come back: it stops its link at these states. */
const FINAL = { 4400: "refused", 4401: "signed_out", 4409: "refused" };

/** Catching up over HTTP, once or every 15 s. */
export class Poll {
  #options;
  #every = /** @type {any} */ (null);
  #reading = /** @type {Promise<void>|null} */ (null);
  #seen = { position: "", etag: "" };

  /** @param {{url: string, fetch: typeof fetch, clock: Clock, hooks: Hooks}} options */
  constructor(options) {
    this.#options = options;
  }

  /** Idempotent. */
  start() {
    if (this.#every !== null) return;
    const again = () => {
      this.#every = this.#options.clock.setTimeout(again, POLL_EVERY);
      void this.read();
    };
    again();
  }

  stop() {
    this.#options.clock.clearTimeout(this.#every);
    this.#every = null;
  }

  get active() {
    return this.#every !== null;
  }

  /** One catch-up; whoever asks while one is under way shares it. Never rejects. */
  read() {
    this.#reading ??= this.#read()
      .catch(() => this.active && this.#options.hooks.state("waiting"))
      .then(() => {
        this.#reading = null;
      });
    return this.#reading;
  }

  /** Whether the server answers the user of this page. Never rejects. */
  async check() {
    try {
      const response = await this.#get(JSON.stringify({ epoch: null, seq: null }));
      return response.ok || response.status === 304;
    } catch {
      return false;
    }
  }

  async #read() {
    const { hooks } = this.#options;
    for (let more = true; more;) {
      const before = JSON.stringify(hooks.position());
      const response = await this.#get(before);
      if (response.status === 401) return hooks.state("signed_out");
      const answered = response.ok || response.status === 304;
      if (this.active) hooks.state(answered ? "polling" : "waiting");
      if (!response.ok) return;
      const frame = /** @type {Frame} */ (await response.json());
      if (overtaken(frame, before, hooks.position())) continue;
      hooks.frame(frame);
      const after = JSON.stringify(hooks.position());
      this.#seen = { position: after, etag: (!frame.more && response.headers.get("ETag")) || "" };
      more = frame.more === true && after !== before;
    }
  }

  /** @param {string} position */
  #get(position) {
    const { epoch, seq } = JSON.parse(position);
    const start = this.#options.url.includes("?") ? "&" : "?";
    const query = epoch === null ? "" : `${start}${new URLSearchParams({ epoch, seq })}`;
    /** @type {Record<string, string>} */
    const headers = { Accept: "application/json" };
    if (this.#seen.etag && this.#seen.position === position) headers["If-None-Match"] = this.#seen.etag;
    // Whoever asks while one is under way shares it: one that hangs in a dead connection would stall them all.
    const patience = new AbortController();
    this.#options.clock.setTimeout(() => patience.abort(), POLL_WITHIN);
    const signal = patience.signal;
    return this.#options.fetch(this.#options.url + query, { headers, credentials: "same-origin", signal });
  }
}

/** A socket to the server, opened again whenever it ends, unless the server said that it is for good. */
export class Connection {
  #options;
  #poll;
  #socket = /** @type {WebSocket|null} */ (null);
  #bye = /** @type {Frame|null} */ (null);
  #timer = /** @type {any} */ (null);
  #watch = /** @type {any} */ (null);
  #held = false;
  #asked = false;
  #running = false;
  #attempt = 0;
  #failures = 0;
  #liveSince = /** @type {number|null} */ (null);

  /**
   * @param {object} options
   * @param {string} options.url
   * @param {(url: string, protocols: string[]) => WebSocket} options.open
   * @param {Poll} options.poll
   * @param {Clock} options.clock
   * @param {() => number} options.random 0 to 1
   * @param {Hooks} options.hooks
   */
  constructor(options) {
    this.#options = options;
    this.#poll = options.poll;
  }

  /** Idempotent. */
  start() {
    if (this.#running) return;
    this.#running = true;
    this.#connect();
  }

  /** Idempotent. */
  stop() {
    this.#running = false;
    this.#options.clock.clearTimeout(this.#timer);
    this.#timer = null;
    this.#poll.stop();
    this.#drop()?.close();
  }

  /** Asks for what follows the position; once until it is answered. */
  sync() {
    if (this.#liveSince === null) {
      if (this.#poll.active) void this.#poll.read();
    } else if (!this.#asked) {
      this.#asked = true;
      this.#send({ op: "sync", seq: this.#options.hooks.position().seq });
    }
  }

  refresh() {
    if (this.#liveSince === null) void this.#poll.read();
  }

  nudge() {
    if (!this.#running || this.#held) return;
    if (this.#timer !== null) {
      this.#options.clock.clearTimeout(this.#timer);
      this.#connect();
    } else if (this.#liveSince !== null) {
      this.#send({ op: "ping" });
      this.#expect(PROBE);
    }
  }

  check() {
    return this.#poll.check();
  }

  watch() {} // There are no other tabs to hear of.

  #connect() {
    this.#timer = null;
    this.#held = false;
    if (!this.#poll.active) this.#options.hooks.state("connecting");
    let socket;
    try {
      socket = this.#options.open(this.#options.url, [SUBPROTOCOL]);
    } catch {
      return this.#ended(1006); // A policy of the page may forbid the socket outright.
    }
    this.#socket = socket;
    socket.onopen = () => {
      this.#asked = true;
      this.#send({ op: "hello", ...this.#options.hooks.position() });
    };
    socket.onmessage = (event) => this.#receive(event.data);
    socket.onclose = (event) => this.#ended(event.code);
    this.#expect(OPENING);
  }

  /** @param {unknown} data */
  #receive(data) {
    this.#expect(SILENCE);
    const frame = parse(data);
    if (!frame) return;
    if (frame.op === "welcome") this.#welcomed();
    else if (frame.op === "bye") this.#bye = frame;
    else {
      if (frame.op === "sync") this.#asked = false;
      this.#options.hooks.frame(frame);
    }
    if (frame.ack === true) this.#send({ op: "ack", n: frame.n });
  }

  #welcomed() {
    this.#liveSince = this.#options.clock.now();
    this.#poll.stop();
    this.#options.hooks.state("live");
  }

  /** @param {number} code */
  #ended(code) {
    const { clock, hooks } = this.#options;
    const bye = this.#bye;
    this.#failures = this.#liveSince === null ? this.#failures + 1 : 0;
    if (this.#liveSince !== null && clock.now() - this.#liveSince >= HEALTHY) this.#attempt = 0;
    this.#drop();
    const why = bye?.code ?? code;
    const final = FINAL[why] ?? (bye?.reconnect === false ? "refused" : null);
    if (final) return hooks.state(final);
    this.#held = why === TOO_MANY;
    this.#timer = clock.setTimeout(() => this.#connect(), this.#wait(why, bye?.after_ms ?? 0));
    if (this.#failures >= FAILURES_BEFORE_POLLING) this.#poll.start();
    if (!this.#poll.active) hooks.state("waiting");
  }

  /**
   * @param {number} code
   * @param {number} after ms that the server asked for
   */
  #wait(code, after) {
    const { random } = this.#options;
    if (code === TOO_MANY) return Math.max(after, TOO_MANY_WAIT) + random() * FIRST_WAIT;
    if (after > 0) return after + (random() * after) / 4;
    const most = Math.min(FIRST_WAIT * 2 ** this.#attempt, LONGEST_WAIT);
    this.#attempt += 1;
    return random() * most;
  }

  /**
   * Takes the connection for lost when no frame comes in time.
   * @param {number} ms
   */
  #expect(ms) {
    const { clock } = this.#options;
    clock.clearTimeout(this.#watch);
    this.#watch = clock.setTimeout(() => {
      const socket = this.#socket;
      this.#ended(1006); // Not on its close event: a dead connection may take minutes to send one.
      socket?.close();
    }, ms);
  }

  /** Lets go of the socket, so that nothing of it is heard any more. */
  #drop() {
    this.#options.clock.clearTimeout(this.#watch);
    const socket = this.#socket;
    if (socket) socket.onopen = socket.onmessage = socket.onclose = null;
    this.#socket = null;
    this.#bye = null;
    this.#liveSince = null;
    this.#asked = false;
    return socket;
  }

  /** @param {object} frame */
  #send(frame) {
    if (this.#socket?.readyState === 1) this.#socket.send(JSON.stringify(frame));
  }
}

/**
 * Whether a socket, or the leading tab, started the client anew while this was asked: it would be taken back.
 * @param {Frame} frame
 * @param {string} asked position
 * @param {import("./client.js").Position} now
 */
function overtaken(frame, asked, now) {
  return JSON.stringify(now) !== asked && (frame.reset === true || frame.epoch !== now.epoch);
}

/**
 * @param {unknown} data
 * @returns {Frame|null}
 */
function parse(data) {
  try {
    const frame = JSON.parse(String(data));
    return frame !== null && typeof frame === "object" ? frame : null;
  } catch {
    return null;
  }
}
