// The user's stream as pages use it: what changes, the counts, and whether the page is connected.

/**
 * @typedef {import("./client.js").Client} Client
 * @typedef {import("./client.js").Change} Change
 * @typedef {import("./client.js").Notification} Notification
 * @typedef {import("./client.js").JobItem} JobItem
 * @typedef {object} StreamState
 * @property {boolean} connected changes arrive, pushed or polled
 * @property {boolean} reconnected the page was connected before
 * @property {boolean} restored nothing was missed meanwhile; otherwise read again what the page shows
 * @property {boolean} signed_out the user has signed out, or was not signed in
 * @typedef {{notification: Notification, job: JobItem, unseen: number|null, state: StreamState}} StreamEvents
 */

const EVENT_TYPES = new Set(["notification", "job", "unseen", "state"]);
const DISCONNECTED = { connected: false, reconnected: false, restored: false, signed_out: false };

export class UserStream {
  #client;
  #events = new EventTarget();
  /** @type {StreamState} */
  #state = DISCONNECTED;
  #wasConnected = false;
  /** Whether a snapshot has replaced what the page held since it was connected last. */
  #isReset = false;

  /** @param {Client} client */
  constructor(client) {
    this.#client = client;
    client.on("change", (change) => this.#handleChange(change));
    client.on("unseen", (unseen) => this.#emit("unseen", unseen));
    client.on("state", (state) => this.#handleState(state));
  }

  /** The number of notifications that were raised since the bell or the inbox was opened last; null: not known. */
  get unseen() {
    return this.#client.unseen;
  }

  /** The number of unread notifications; null: not known. */
  get unread() {
    return this.#client.unread;
  }

  /** Whether the page is connected, as the listeners of "state" have got it last. */
  get state() {
    return this.#state;
  }

  /**
   * Call a listener with each notification that is raised or changes ("notification"), each version of a job ("job"),
   * the new unseen count ("unseen"), or when the page is connected, disconnected or signed out ("state").
   * @template {keyof StreamEvents} T
   * @param {T} type
   * @param {(detail: StreamEvents[T]) => void} listener
   * @returns {() => void} removes the listener
   */
  on(type, listener) {
    if (!EVENT_TYPES.has(type)) throw new TypeError(`type must be one of ${[...EVENT_TYPES].join(", ")}.`);
    const handler = (/** @type {Event} */ event) => listener(/** @type {CustomEvent} */ (event).detail);
    this.#events.addEventListener(type, handler);
    return () => this.#events.removeEventListener(type, handler);
  }

  /** @param {Change} change */
  #handleChange({ op, reset, notifications, jobs }) {
    this.#isReset ||= reset;
    // A snapshot, or a list that was read over HTTP, is what there is, not what has happened.
    if (op !== "jobs" && !reset) for (const item of notifications) this.#emit("notification", item);
    for (const item of jobs) this.#emit("job", item);
    // The first frame after a connect tells whether something was missed.
    if (op !== "jobs" && (this.#state.connected || this.#client.state === "live")) this.#connect();
  }

  /** @param {string} state of the client */
  #handleState(state) {
    if (state === "polling") this.#connect();
    else if (state !== "live") this.#disconnect(state === "signed_out");
  }

  #connect() {
    if (this.#state.connected && !this.#isReset) return;
    const history = { reconnected: this.#wasConnected, restored: !this.#isReset };
    this.#setState({ ...DISCONNECTED, ...history, connected: true });
    this.#wasConnected = true;
  }

  /** @param {boolean} signed_out */
  #disconnect(signed_out) {
    if (this.#state.connected || this.#state.signed_out !== signed_out)
      this.#setState({ ...DISCONNECTED, signed_out });
  }

  /** @param {StreamState} state */
  #setState(state) {
    this.#isReset = false;
    this.#state = state;
    this.#emit("state", state);
  }

  /**
   * @param {keyof StreamEvents} type
   * @param {unknown} detail
   */
  #emit(type, detail) {
    this.#events.dispatchEvent(new CustomEvent(type, { detail }));
  }
}
