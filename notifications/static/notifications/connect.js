// Connects a page to its user's stream, from what the template tag has rendered or a bundle was given. Anonymous pages
// get the same objects, whose requests are refused.

/**
 * @typedef {import("./client.js").Client} Client
 * @typedef {import("./client.js").Callbacks} Callbacks
 * @typedef {import("./client.js").Transport} Transport
 * @typedef {import("./connection.js").Clock} Clock
 * @typedef {import("./jobs.js").Jobs} Jobs
 * @typedef {import("./stream.js").UserStream} UserStream
 * @typedef {{name: string, clock: Clock, client: Client, jobs: Jobs, stream: UserStream, start: () => void}} Connection
 * @typedef {Record<string, string|undefined>} PageData the `data-` attributes of the script; without `sync` no user
 *   is signed in
 * @typedef {{client: typeof import("./client.js"), connection: typeof import("./connection.js"),
 *   polling: typeof import("./polling.js"), tabs: typeof import("./tabs.js"),
 *   requests: typeof import("./requests.js"), job_handle: typeof import("./job_handle.js"),
 *   jobs: typeof import("./jobs.js"), stream: typeof import("./stream.js")}} CoreModules
 */

/** Stands in the address of a job or a notification for its id. */
export const PLACEHOLDER_ID = "00000000-0000-0000-0000-000000000000";
/** A position that the browser remembers is used for this long. */
const MAX_POSITION_AGE_MS = 5 * 60_000;

/**
 * Make the client, the jobs and the stream of a page. Nothing is requested before `start()`.
 * @param {CoreModules} modules handed in: the modules do not import one another
 * @param {PageData} data
 * @param {(name: string) => Promise<any>} loadModules loads those that few pages need
 * @returns {Connection}
 */
export function connect(modules, data, loadModules) {
  const isSignedIn = data.sync !== undefined;
  const name = `notifications.v1:${data.user}`;
  const clock = {
    now: () => Date.now(),
    setTimeout: (/** @type {() => void} */ callback, /** @type {number} */ ms) => setTimeout(callback, ms),
    clearTimeout: (/** @type {any} */ timer) => clearTimeout(timer),
  };
  const refuse = async () => {
    throw modules.requests.createSignedOut();
  };
  const send = modules.requests.refuseSignIn(fetch.bind(globalThis), data.signIn ?? "");
  const createTransport = isSignedIn
    ? transportFactory(modules, { data, name, clock, send })
    : createNoTransport;
  const client = new modules.client.Client({ createTransport, start: startingPosition(data, name) });
  const requests = new modules.requests.Requests({
    fetch: isSignedIn ? send : refuse,
    clock,
    origin: location.origin,
    csrf: {
      header: data.csrfHeader ?? "X-CSRFToken",
      getToken: () => readCookie(data.csrfCookie) ?? data.csrfToken ?? "",
    },
    viewer: data.user,
    onSignedOut: () => client.checkConnection(),
  });
  const jobs = new modules.jobs.Jobs({
    client,
    requests,
    errors: modules.requests,
    FollowedJob: modules.job_handle.FollowedJob,
    clock,
    jobUrl: (id) => data.job?.replace(PLACEHOLDER_ID, id) ?? "",
    loadModules,
  });
  const stream = new modules.stream.UserStream(client);
  return { name, clock, client, jobs, stream, start: () => startClient(client, data) };
}

/**
 * Return what creates the transport of a client: one connection for all tabs where the browser can share it, a
 * connection of its own otherwise.
 * @param {CoreModules} modules
 * @param {{data: PageData, name: string, clock: Clock, send: typeof fetch}} options
 */
function transportFactory({ connection, polling, tabs }, { data, name, clock, send }) {
  const socketUrl = new URL(data.socket ?? "", location.href);
  socketUrl.protocol = location.protocol === "https:" ? "wss:" : "ws:";
  const createPoller = (/** @type {Callbacks} */ callbacks) =>
    new polling.Poller({ url: data.sync ?? "", fetch: send, clock, callbacks });
  const createConnection = (/** @type {Callbacks} */ callbacks) =>
    new connection.Connection({
      url: socketUrl.href,
      openSocket: (/** @type {string} */ url, /** @type {string[]} */ protocols) =>
        new WebSocket(url, protocols),
      poller: createPoller(callbacks),
      hasUser: Boolean(data.user),
      clock,
      random: Math.random,
      callbacks,
    });
  const canShare = navigator.locks && "BroadcastChannel" in globalThis && data.user;
  if (!canShare) return createConnection;
  return (/** @type {Callbacks} */ callbacks) =>
    new tabs.SharedConnection({
      name,
      locks: navigator.locks,
      createChannel: (/** @type {string} */ name) => new BroadcastChannel(name),
      createConnection,
      poller: createPoller(callbacks),
      clock,
      isVisible: () => document.visibilityState === "visible",
      callbacks,
    });
}

/**
 * Return the transport of an anonymous page, which never connects.
 * @param {Callbacks} callbacks
 * @returns {Transport}
 */
function createNoTransport({ onState }) {
  const doNothing = () => undefined;
  return {
    start: () => onState("signed_out"),
    stop: doNothing,
    sync: doNothing,
    refresh: doNothing,
    checkConnection: doNothing,
    confirmUser: doNothing,
    watchOtherTabs: doNothing,
  };
}

/**
 * Return the position at which the page was rendered, or the one up to which this browser had shown everything a
 * few minutes ago (toasts.js stores it), if it is lower. So notifications that were raised between two pages become toasts too.
 * @param {PageData} data
 * @param {string} name
 */
function startingPosition(data, name) {
  const parse = (/** @type {string|undefined} */ number) => (number === undefined ? null : Number(number));
  const { epoch = null, seq, unread, unseen } = data;
  const start = { epoch, seq: parse(seq), unread: parse(unread), unseen: parse(unseen) };
  const saved = readStored(`${name}:position`);
  const isUsable = saved && Date.now() - saved.at < MAX_POSITION_AGE_MS && saved.epoch === start.epoch;
  if (isUsable && start.seq !== null && saved.seq < start.seq) start.seq = saved.seq;
  return start;
}

/**
 * Return a JSON value that store() has written in this browser, or null.
 * @param {string} key
 */
export function readStored(key) {
  try {
    return JSON.parse(localStorage.getItem(key) ?? "null");
  } catch {
    return null;
  }
}

/**
 * @param {string} key
 * @param {unknown} value
 */
export function store(key, value) {
  try {
    localStorage.setItem(key, JSON.stringify(value));
  } catch {
    // Storage is blocked or full: the value holds for this page only.
  }
}

/**
 * Start the client; stop it while the page is in the back-forward cache, and check its connection when the network or
 * the user comes back.
 * @param {Client} client
 * @param {PageData} data
 */
function startClient(client, data) {
  for (const event of ["online", "focus"]) addEventListener(event, () => client.checkConnection());
  document.addEventListener("visibilitychange", () => {
    if (document.visibilityState === "visible") client.checkConnection();
  });
  addEventListener("pagehide", () => client.stop());
  addEventListener("pageshow", (event) => event.persisted && client.start());
  if (data.user && "BroadcastChannel" in globalThis) watchUser(client, data);
  client.start();
}

/**
 * Tell the other tabs which user the server has confirmed, and have it confirm the user of this page when another one
 * has told that of a different user: this page's connection may belong to a session that is no longer the browser's.
 * @param {Client} client
 * @param {PageData} data
 */
function watchUser(client, { user, socket }) {
  // Sites with different paths on one origin have users of their own.
  const name = `notifications.v1:${new URL(socket ?? "", location.href).pathname}`;
  const createChannel = () => {
    const channel = new BroadcastChannel(name);
    channel.onmessage = ({ data }) => data !== user && client.state !== "signed_out" && client.confirmUser();
    return channel;
  };
  // An open channel would keep the page out of the back-forward cache.
  let channel = createChannel();
  addEventListener("pagehide", () => channel.close());
  addEventListener("pageshow", (event) => {
    if (event.persisted) channel = createChannel();
  });
  client.on("state", (state) => {
    if (state === "live" || state === "polling") channel.postMessage(user);
  });
}

/** @param {string|undefined} name */
function readCookie(name) {
  const cookie = name && document.cookie.split("; ").find((pair) => pair.startsWith(`${name}=`));
  return cookie ? decodeURIComponent(cookie.slice(name.length + 1)) : null;
}
