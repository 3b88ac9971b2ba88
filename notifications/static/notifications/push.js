// <notifications-push>, the list of devices: turns push on in this browser after a click, and off with the removal of its row. The list itself,
// and the removal of other devices, work without this script.

/**
 * @typedef {import("./notifications.js").Page} Page
 * @typedef {{public_key: string, csrf_header: string, csrf_token: string, position: number,
 *   links: {worker: string, subscribe: string, read: string}}} PushState what the server tells this script and the service worker
 * @typedef {"unsupported"|"denied"|"failed"} TextKey
 */

/** With require-trusted-types-for the address of a service worker must come from a policy. It is made once. */
let policy = /** @type {any} */ (null);

/**
 * Connect the list of a page. Nothing is asked, and no service worker is installed, before a click.
 * @param {HTMLElement} list
 * @param {Page} page
 */
export async function connectElement(list, { describe: describeError, jobs }) {
  const { worker = "", state: stateUrl = "" } = list.dataset;
  const button = /** @type {HTMLButtonElement} */ (list.querySelector("[data-subscribe]"));
  const note = /** @type {HTMLElement} */ (list.querySelector("[role=status]"));

  if (!("serviceWorker" in navigator && "PushManager" in globalThis && "Notification" in globalThis)) {
    say("unsupported");
    return;
  }
  const scope = new URL("./", new URL(worker, location.href)).href;
  const registration = await navigator.serviceWorker.getRegistration(scope);
  const subscription =
    registration?.scope === scope ? await registration.pushManager.getSubscription() : null;
  const row = subscription && (await findRow(subscription));
  if (row) markRow(row, subscription);
  button.hidden = Boolean(row);
  if (!row && Notification.permission === "denied") say("denied");
  button.addEventListener("click", turnOn);

  async function turnOn() {
    button.disabled = true;
    try {
      if ((await Notification.requestPermission()) !== "granted") return say("denied");
      const state = await readState();
      const made = await subscribe(await install(state.links.worker), state.public_key);
      await post(state, describe(made));
      location.reload();
    } catch (error) {
      if (error instanceof DOMException)
        say("failed"); // The push service has refused.
      else note.textContent = describeError(error);
    } finally {
      button.disabled = false;
    }
  }

  /**
   * Return the registration of the service worker as soon as it is active.
   * @param {string} script
   */
  async function install(script) {
    policy ??= /** @type {any} */ (globalThis).trustedTypes?.createPolicy("notifications", {
      createScriptURL: (/** @type {string} */ url) => url,
    });
    const address = policy?.createScriptURL(script) ?? script;
    const installed = await navigator.serviceWorker.register(address, { scope, updateViaCache: "none" });
    const newest = installed.active ?? installed.waiting ?? installed.installing;
    if (newest && newest.state !== "activated")
      await new Promise((resolve) =>
        newest.addEventListener("statechange", () => newest.state === "activated" && resolve(undefined)),
      );
    return installed;
  }

  /**
   * @param {ServiceWorkerRegistration} installed
   * @param {string} key
   */
  async function subscribe(installed, key) {
    const held = await installed.pushManager.getSubscription();
    // A subscription is bound to the key that it was made with.
    if (held && encode(held.options.applicationServerKey) !== key) await held.unsubscribe();
    return installed.pushManager.subscribe({ userVisibleOnly: true, applicationServerKey: key });
  }

  /**
   * @param {HTMLElement} item
   * @param {PushSubscription} held
   */
  function markRow(item, held) {
    const mark = item.querySelector("[data-here]");
    if (mark instanceof HTMLElement) mark.hidden = false;
    item.querySelector("form")?.addEventListener("submit", async (event) => {
      event.preventDefault();
      const form = /** @type {HTMLFormElement} */ (event.target);
      await held.unsubscribe().catch(() => false); // The server sends nothing to a removed device anyway.
      form.submit();
    });
    void confirm(held).catch(() => {});
  }

  /**
   * Confirm the subscription, whose keys and language may have changed, and the worker's mark of its user. With another key
   * of the site it is made anew: its push service refuses messages.
   * @param {PushSubscription} held
   */
  async function confirm(held) {
    const state = await readState();
    const installed = await install(state.links.worker);
    const { applicationServerKey } = held.options;
    if (!applicationServerKey || encode(applicationServerKey) === state.public_key)
      return post(state, { ...describe(held), confirms: true });
    try {
      const made = await subscribe(installed, state.public_key);
      await post(state, { ...describe(made), replaces: held.endpoint, confirms: true });
      location.reload();
    } catch {
      button.hidden = false;
      say("failed");
    }
  }

  /** @param {PushSubscription} held */
  async function findRow(held) {
    const digest = await crypto.subtle.digest("SHA-256", new TextEncoder().encode(held.endpoint));
    const hex = [...new Uint8Array(digest)].map((byte) => byte.toString(16).padStart(2, "0")).join("");
    return /** @type {HTMLElement|null} */ (list.querySelector(`[data-mark="${hex}"]`));
  }

  /** @returns {Promise<PushState>} */
  async function readState() {
    return jobs.send(stateUrl);
  }

  /**
   * @param {PushState} state
   * @param {object} made
   */
  async function post(state, made) {
    const headers = { "Content-Type": "application/json" };
    const body = JSON.stringify(made);
    await jobs.send(state.links.subscribe, { method: "POST", headers, body });
  }

  /** @param {TextKey} key */
  function say(key) {
    note.textContent = list.dataset[key] ?? "";
  }
}

/**
 * Return what the server stores of a subscription.
 * @param {PushSubscription} made
 */
function describe(made) {
  return { ...made.toJSON(), key: encode(made.options.applicationServerKey) };
}

/** @param {ArrayBuffer|null} key */
function encode(key) {
  const text = String.fromCharCode(...new Uint8Array(key ?? new ArrayBuffer(0)));
  return btoa(text).replaceAll("+", "-").replaceAll("/", "_").replaceAll("=", "");
}
