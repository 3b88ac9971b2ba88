// Entry module: reads the attributes and the JSON that the template tag wrote, imports the other modules by their (hashed) URLs, and
// connects them. The modules do not import one another, because hashed static files do not rewrite their imports.

/**
 * @typedef {import("./client.js").Client} Client
 * @typedef {import("./client.js").Callbacks} Callbacks
 * @typedef {import("./client.js").Notification} Notification
 * @typedef {import("./jobs.js").Jobs} Jobs
 * @typedef {"read"|"unread"|"archive"|"unarchive"} Verb
 * @typedef {{name: string, inboxUrl: string, healthUrl: string, client: Client, jobs: Jobs, dom: typeof import("./dom.js"),
 *   localization: import("./localization.js").Localization, clock: import("./connection.js").Clock,
 *   isOut: () => boolean, onOutage: (listener: (isOut: boolean) => void) => () => void,
 *   getSignInUrl: () => string,
 *   loadLatest: (count: number) => Promise<void>,
 *   getActionUrl: (id: string, number: number) => string,
 *   defineShortcuts: typeof import("./shortcuts.js").defineShortcuts,
 *   mark: (verb: Verb, items: Pick<Notification, "id"|"raised">[]) => Promise<void>,
 *   markReadUpTo: (raised: number) => Promise<void>,
 *   markSeen: (raised: number) => Promise<void>}} Page what each element gets
 */

/** Stands in the address of a job or a notification for its id. */
const PLACEHOLDER_ID = "00000000-0000-0000-0000-000000000000";
/** A position that the browser remembers is used for this long. */
const MAX_POSITION_AGE_MS = 5 * 60_000;
/** An outage shorter than this is not shown. */
const OUTAGE_NOTICE_MS = 5_000;
const REACHABLE_STATES = new Set(["live", "polling", "signed_out"]);
/** Relative times of the page are rendered again after this long. */
const TIMES_INTERVAL_MS = 20_000;

/**
 * @param {HTMLScriptElement} script the one that the template tag wrote
 * @returns {Promise<{client: Client, ask: Jobs["ask"], job: Jobs["job"]}>}
 */
async function load(script) {
  const data = /** @type {Record<string, string>} */ (script.dataset);
  const {
    modules: moduleUrls,
    strings,
    marks,
    action,
  } = JSON.parse(document.getElementById("notifications-data")?.textContent ?? "");
  const modules = await importModules(moduleUrls);
  const name = `notifications.v1:${data.user}`;
  const clock = {
    now: () => Date.now(),
    setTimeout: (/** @type {() => void} */ callback, /** @type {number} */ ms) => setTimeout(callback, ms),
    clearTimeout: (/** @type {any} */ timer) => clearTimeout(timer),
  };
  const createTransport = transportFactory(modules, { data, name, clock });
  const client = /** @type {Client} */ (
    new modules.client.Client({ createTransport, start: startingPosition(data, name) })
  );
  const requests = new modules.requests.Requests({
    fetch: fetch.bind(globalThis),
    clock,
    origin: location.origin,
    csrf: {
      header: data.csrfHeader,
      getToken: () => readCookie(data.csrfCookie) ?? data.csrfToken ?? "",
    },
  });
  const jobs = /** @type {Jobs} */ (
    new modules.jobs.Jobs({
      client,
      requests,
      Problem: modules.requests.Problem,
      clock,
      jobUrl: (/** @type {string} */ id) => data.job.replace(PLACEHOLDER_ID, id),
    })
  );
  const localization = new modules.localization.Localization({
    strings,
    language: document.documentElement.lang,
    now: clock.now,
  });
  /** @type {Page} */
  const page = {
    name,
    inboxUrl: data.inbox,
    healthUrl: data.health,
    client,
    jobs,
    dom: modules.dom,
    localization,
    clock,
    getSignInUrl: () => {
      const url = new URL(data.signIn, location.href);
      if (data.signInNext) url.searchParams.set(data.signInNext, location.pathname + location.search);
      return url.href;
    },
    ...watchOutages(client, clock),
    // The address of the action with the number 0.
    getActionUrl: (id, number) => action.replace(PLACEHOLDER_ID, id).replace(/0(?=\/[^/]*$)/, String(number)),
    defineShortcuts: modules.shortcuts.defineShortcuts,
    ...notificationActions(client, jobs, data, marks),
  };
  for (const element of ["bell", "inbox", "toasts", "job_element", "forms"]) modules[element].define(page);
  const updateTimes = () => {
    page.dom.updateTimes(document, localization);
    clock.setTimeout(updateTimes, TIMES_INTERVAL_MS);
  };
  updateTimes();
  startClient(client, name);
  return { client, ask: jobs.ask.bind(jobs), job: jobs.job.bind(jobs) };
}

/**
 * @param {Record<string, string>} urls by module name
 * @returns {Promise<Record<string, any>>} modules by name
 */
async function importModules(urls) {
  const entries = Object.entries(urls).map(async ([name, url]) => [
    name,
    await import(new URL(url, document.baseURI).href),
  ]);
  return Object.fromEntries(await Promise.all(entries));
}

/**
 * Return what creates the transport of a client: one connection for all tabs where the browser can share it, a
 * connection of its own otherwise.
 * @param {Record<string, any>} modules
 * @param {{data: Record<string, string>, name: string, clock: import("./connection.js").Clock}} options
 */
function transportFactory({ connection, polling, tabs }, { data, name, clock }) {
  const socketUrl = new URL(data.socket, location.href);
  socketUrl.protocol = location.protocol === "https:" ? "wss:" : "ws:";
  const createPoller = (/** @type {Callbacks} */ callbacks) =>
    new polling.Poller({ url: data.sync, fetch: fetch.bind(globalThis), clock, callbacks });
  const createConnection = (/** @type {Callbacks} */ callbacks) =>
    new connection.Connection({
      url: socketUrl.href,
      openSocket: (/** @type {string} */ url, /** @type {string[]} */ protocols) =>
        new WebSocket(url, protocols),
      poller: createPoller(callbacks),
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
      callbacks,
    });
}

/**
 * Return the state of the connection as people see it: an outage is one that has lasted 5 s, however often the client
 * has tried to reconnect meanwhile.
 * @param {Client} client
 * @param {import("./connection.js").Clock} clock
 * @returns {Pick<Page, "isOut"|"onOutage">}
 */
function watchOutages(client, clock) {
  /** @type {Set<(isOut: boolean) => void>} */
  const listeners = new Set();
  let isOut = false;
  let timer = /** @type {any} */ (null);
  const setOut = (/** @type {boolean} */ value) => {
    if (value === isOut) return;
    isOut = value;
    for (const listener of listeners) listener(value);
  };
  client.on("state", (state) => {
    if (!REACHABLE_STATES.has(state)) {
      timer ??= clock.setTimeout(() => setOut(true), OUTAGE_NOTICE_MS);
      return;
    }
    clock.clearTimeout(timer);
    timer = null;
    setOut(false);
  });
  return {
    isOut: () => isOut,
    onOutage: (listener) => {
      listeners.add(listener);
      return () => listeners.delete(listener);
    },
  };
}

/**
 * Return the requests about notifications that the elements make.
 * @param {Client} client
 * @param {Jobs} jobs
 * @param {Record<string, string>} data
 * @param {Record<Verb, string>} markUrls
 * @returns {Pick<Page, "loadLatest"|"mark"|"markReadUpTo"|"markSeen">}
 */
function notificationActions(client, jobs, data, markUrls) {
  const post = async (/** @type {string} */ url, /** @type {object} */ body) => {
    const headers = { "Content-Type": "application/json" };
    const request = { method: "POST", headers, body: JSON.stringify(body), keepalive: true };
    // One request marks at most 1,000 notifications.
    for (let hasMore = true; hasMore; ) hasMore = (await jobs.send(url, request)).more;
    client.refresh();
  };
  let seenUpTo = 0;
  return {
    loadLatest: async (count) => {
      const url = new URL(data.list, location.href);
      url.searchParams.set("limit", String(count));
      client.merge((await jobs.send(url.href)).items);
    },
    mark: (verb, items) => {
      const raised = items.map((item) => item.raised);
      return post(markUrls[verb], { ids: items.map((item) => item.id), up_to: Math.max(...raised) });
    },
    markReadUpTo: (raised) => post(markUrls.read, { up_to: raised }),
    // Once for each position, and only while something is unseen: opening the bell again sends nothing.
    markSeen: async (raised) => {
      if (raised <= seenUpTo || client.unseen === 0) return;
      const before = seenUpTo;
      seenUpTo = raised;
      try {
        await post(data.seen, { up_to: raised });
      } catch {
        seenUpTo = before; // tried again with the next change, or when the list is opened again
      }
    },
  };
}

/**
 * Return the position at which the page was rendered, or the one that this browser had a few minutes ago, if it is
 * lower. So notifications that were raised between two pages become toasts too.
 * @param {Record<string, string>} data
 * @param {string} name
 */
function startingPosition(data, name) {
  const isKnown = data.seq !== undefined;
  const start = {
    epoch: data.epoch ?? null,
    seq: isKnown ? Number(data.seq) : null,
    unread: isKnown ? Number(data.unread) : null,
    unseen: isKnown ? Number(data.unseen) : null,
  };
  const saved = readSavedPosition(name);
  const isUsable = saved && Date.now() - saved.at < MAX_POSITION_AGE_MS && saved.epoch === start.epoch;
  if (isUsable && start.seq !== null && saved.seq < start.seq) start.seq = saved.seq;
  return start;
}

/** @param {string} name */
function readSavedPosition(name) {
  try {
    return JSON.parse(localStorage.getItem(`${name}:position`) ?? "null");
  } catch {
    return null;
  }
}

/**
 * @param {string} name
 * @param {import("./client.js").Stream} stream
 */
function savePosition(name, { epoch, cursor }) {
  if (cursor === null) return;
  try {
    localStorage.setItem(`${name}:position`, JSON.stringify({ epoch, seq: cursor, at: Date.now() }));
  } catch {
    // Storage is blocked or full: the next page starts from its own position.
  }
}

/**
 * Start the client; stop it while the page is in the back-forward cache, and check its connection when the network or
 * the user comes back.
 * @param {Client} client
 * @param {string} name
 */
function startClient(client, name) {
  for (const event of ["online", "focus"]) addEventListener(event, () => client.checkConnection());
  document.addEventListener("visibilitychange", () => {
    if (document.visibilityState === "visible") client.checkConnection();
  });
  addEventListener("pagehide", () => {
    savePosition(name, client.stream);
    client.stop();
  });
  addEventListener("pageshow", (event) => event.persisted && client.start());
  client.on("change", () => savePosition(name, client.stream));
  client.start();
}

/** @param {string|undefined} name */
function readCookie(name) {
  const cookie = name && document.cookie.split("; ").find((pair) => pair.startsWith(`${name}=`));
  return cookie ? decodeURIComponent(cookie.slice(name.length + 1)) : null;
}

const script = /** @type {HTMLScriptElement|null} */ (document.querySelector("script[data-notifications]"));
if (script && !("notifications" in globalThis)) {
  Object.assign(globalThis, { notifications: { ready: load(script) } });
}

export {};
