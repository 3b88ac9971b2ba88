// The service worker of push: shows what a push service brings, opens the page that a click leads to, and marks the
// notification as read. It answers no requests of pages.

/** @typedef {import("./push.js").PushState} PushState */

const worker = /** @type {any} */ (globalThis);
/** A redirect leads to the page to sign in, whose status is that of success. */
const OPTIONS = /** @type {RequestInit} */ ({ credentials: "same-origin", redirect: "error" });

worker.addEventListener("install", () => worker.skipWaiting());
handle("activate", keepKey);
handle("message", keepKeyInTurn); // Of push_key.js.
handle("push", show);
handle("notificationclick", open);
handle("pushsubscriptionchange", renew);

/**
 * @param {string} type
 * @param {(event: any) => Promise<void>} handler until whose end the browser keeps this worker
 */
function handle(type, handler) {
  worker.addEventListener(type, (/** @type {any} */ event) => event.waitUntil(handler(event)));
}

/** @param {any} event */
async function show(event) {
  // A browser that knows declarative messages has read this one already.
  const { title, body, lang, dir, tag, navigate, data } =
    event.notification ?? event.data.json().notification;
  // Beside one with the same tag nothing is shown again, and there is no sound.
  await worker.registration.showNotification(title, { body, lang, dir, tag, data: { ...data, navigate } });
}

/** @param {any} event */
async function open({ notification }) {
  notification.close();
  const { id, navigate } = notification.data;
  // Side by side: a browser lets a worker open a window only shortly after the click.
  await Promise.allSettled([focusOrOpen(navigate), markRead(id)]);
}

/** @param {string} url */
async function focusOrOpen(url) {
  const pages = await worker.clients.matchAll({ type: "window", includeUncontrolled: true });
  const page = pages.find((/** @type {any} */ each) => each.url === url);
  await (page ? page.focus() : worker.clients.openWindow(url));
}

/** @param {string} id */
async function markRead(id) {
  const state = await readState();
  await post(state, state.links.read, { ids: [id], up_to: state.position });
}

let keeping = Promise.resolve();

/**
 * Pages that are opened together each ask for it: a second call would end what the first one has subscribed.
 * @param {any} event
 */
function keepKeyInTurn(event) {
  keeping = keeping.catch(() => undefined).then(() => keepKey(event));
  return keeping;
}

/**
 * Subscribe anew if the site has another key: the push service refuses messages. Answer on the port of a page's message,
 * which has the endpoint that is replaced, with the key of the subscription that the server has stored. An earlier call
 * may have failed on the way.
 * @param {any} event
 */
async function keepKey({ data, ports: [port] = [] }) {
  const held = await worker.registration.pushManager.getSubscription();
  const replaces = data?.replaces ?? held?.endpoint;
  if (!replaces) return;
  const key = held?.options.applicationServerKey;
  if (held && !key) return;
  const state = await readState();
  const isNew = !held || encode(key) !== state.public_key;
  if (isNew) await held?.unsubscribe();
  const subscription = isNew ? await subscribe(state) : held;
  if (isNew || port) {
    const { id } = await store(state, subscription, { replaces, confirms: true });
    if (!id) await subscription.unsubscribe(); // The device was removed.
  }
  port?.postMessage(state.public_key);
}

/** @param {any} event */
async function renew(event) {
  const state = await readState();
  const subscription = event.newSubscription ?? (await subscribe(state));
  await store(state, subscription, { replaces: event.oldSubscription?.endpoint });
}

/** @param {PushState} state */
function subscribe(state) {
  const options = { userVisibleOnly: true, applicationServerKey: state.public_key };
  return worker.registration.pushManager.subscribe(options);
}

/**
 * @param {PushState} state
 * @param {any} subscription
 * @param {object} more
 */
function store(state, subscription, more) {
  const key = subscription.options?.applicationServerKey;
  const made = { ...subscription.toJSON(), key: key && encode(key), ...more };
  return post(state, state.links.subscribe, made);
}

/** @param {ArrayBuffer} key */
function encode(key) {
  const text = String.fromCharCode(...new Uint8Array(key));
  return btoa(text).replaceAll("+", "-").replaceAll("/", "_").replaceAll("=", "");
}

/** @returns {Promise<PushState>} */
async function readState() {
  // With the mark of the user who has turned push on here. Requests of another one, who has signed in since, are refused.
  const url = new URL(`state/${worker.location.search}`, worker.registration.scope);
  url.searchParams.set("background", "1"); // The browser may have started this worker without a person.
  const response = await fetch(url, { ...OPTIONS, headers: { Accept: "application/json" } });
  if (!response.ok) throw new Error(`The state could not be read: ${response.status}`);
  return response.json();
}

/**
 * @param {PushState} state
 * @param {string} url
 * @param {object} body
 */
async function post(state, url, body) {
  const headers = { "Content-Type": "application/json", [state.csrf_header]: state.csrf_token };
  const response = await fetch(url, { ...OPTIONS, method: "POST", headers, body: JSON.stringify(body) });
  if (!response.ok) throw new Error(`${url} answered ${response.status}`);
  return response.json();
}
