// Entry: reads what the template tag wrote, loads the other modules by their (hashed) URLs, and puts them together.

/**
 * @typedef {import("./client.js").Client} Client
 * @typedef {import("./client.js").Hooks} Hooks
 * @typedef {import("./client.js").Notification} Item
 * @typedef {{name: string, inbox: string, client: Client, jobs: import("./jobs.js").Jobs,
 *   words: import("./words.js").Words, clock: import("./connection.js").Clock,
 *   summarize: (item: Item) => HTMLElement, latest: (count: number) => Promise<void>,
 *   read: (items: Pick<Item, "id"|"raised">[]) => Promise<void>, readUpTo: (raised: number) => Promise<void>}} Page
 */

const NO_JOB = "00000000-0000-0000-0000-000000000000";

/**
 * @param {HTMLScriptElement} script the one that the template tag wrote
 * @returns {Promise<{client: Client, ask: Function, job: Function}>}
 */
async function load(script) {
  const data = /** @type {Record<string, string>} */ (script.dataset);
  const urls = JSON.parse(data.modules);
  const [{ Client }, { Connection, Poll }, { SharedLink }, { Jobs }, { Words }, { summarize }, ...elements] =
    /** @type {any[]} */ (
      await Promise.all(
        ["client", "connection", "tabs", "jobs", "words", "summary", "bell", "toasts", "progress"].map(
          (name) => import(new URL(urls[name], document.baseURI).href),
        ),
      )
    );

  const clock = {
    now: () => Date.now(),
    setTimeout: (/** @type {() => void} */ run, /** @type {number} */ ms) => setTimeout(run, ms),
    clearTimeout: (/** @type {any} */ timer) => clearTimeout(timer),
  };
  const get = fetch.bind(globalThis);
  const socket = new URL(data.socket, location.href);
  socket.protocol = location.protocol === "https:" ? "wss:" : "ws:";
  const name = `notifications.v1:${data.user}`;

  const link = (/** @type {Hooks} */ hooks) => {
    const poll = new Poll({ url: data.sync, fetch: get, clock, hooks });
    const open = (/** @type {string} */ url, /** @type {string[]} */ protocols) =>
      new WebSocket(url, protocols);
    const connect = (/** @type {Hooks} */ hooks) =>
      new Connection({
        url: socket.href,
        open,
        poll: new Poll({ url: data.sync, fetch: get, clock, hooks }),
        clock,
        random: Math.random,
        hooks,
      });
    if (!navigator.locks || !("BroadcastChannel" in globalThis) || !data.user) return connect(hooks);
    const channel = (/** @type {string} */ name) => new BroadcastChannel(name);
    return new SharedLink({ name, locks: navigator.locks, channel, connect, poll, clock, hooks });
  };

  const client = new Client({ link, start: startingPosition(data, name) });
  const csrf = { header: data.csrfHeader, token: () => cookie(data.csrfCookie) ?? data.csrfToken ?? "" };
  const jobUrl = (/** @type {string} */ id) => data.job.replace(NO_JOB, id);
  const jobs = new Jobs({ client, fetch: get, clock, origin: location.origin, csrf, jobUrl });
  const strings = JSON.parse(data.strings);
  const words = new Words({
    strings,
    language: document.documentElement.lang,
    origin: location.origin,
    now: clock.now,
  });

  const post = async (/** @type {object} */ body) => {
    const headers = { "Content-Type": "application/json" };
    const request = { method: "POST", headers, body: JSON.stringify(body), keepalive: true };
    for (let more = true; more;) ({ more } = await jobs.send(data.read, request)); // 1,000 at a time
    client.refresh();
  };
  /** @type {Page} */
  const page = {
    name,
    inbox: data.inbox,
    client,
    jobs,
    words,
    clock,
    summarize: (item) => summarize(page, item),
    latest: async (count) => {
      const list = new URL(data.list, location.href);
      list.searchParams.set("limit", String(count));
      client.merge((await jobs.send(list.href)).items);
    },
    read: (items) =>
      post({ ids: items.map((item) => item.id), up_to: Math.max(...items.map((item) => item.raised)) }).catch(
        () => undefined,
      ),
    readUpTo: (raised) => post({ up_to: raised }),
  };
  for (const { define } of elements) define(page);
  follow(client, name);
  return { client, ask: jobs.ask.bind(jobs), job: jobs.job.bind(jobs) };
}

/**
 * The position that the page was rendered at; or what this browser had seen minutes ago, so that what was raised
 * while the person went from one page to the next is told as well.
 * @param {Record<string, string>} data
 * @param {string} name
 */
function startingPosition(data, name) {
  const known = data.seq !== undefined;
  const start = {
    epoch: data.epoch ?? null,
    seq: known ? Number(data.seq) : null,
    unread: known ? Number(data.unread) : null,
  };
  const seen = remembered(name);
  const recent = seen && Date.now() - seen.at < 5 * 60_000 && seen.epoch === start.epoch;
  if (recent && start.seq !== null && seen.seq < start.seq) start.seq = seen.seq;
  return start;
}

/** @param {string} name */
function remembered(name) {
  try {
    return JSON.parse(localStorage.getItem(`${name}:seen`) ?? "null");
  } catch {
    return null;
  }
}

/**
 * Starts, and keeps step with the page: asleep in the back-forward cache, awake again, network back.
 * @param {Client} client
 * @param {string} name
 */
function follow(client, name) {
  const remember = () => {
    const { epoch, cursor } = client.stream;
    if (cursor === null) return;
    try {
      localStorage.setItem(`${name}:seen`, JSON.stringify({ epoch, seq: cursor, at: Date.now() }));
    } catch {
      // Blocked or full: the next page starts from its own position.
    }
  };
  for (const back of ["online", "focus"]) addEventListener(back, () => client.nudge());
  document.addEventListener(
    "visibilitychange",
    () => document.visibilityState === "visible" && client.nudge(),
  );
  addEventListener("pagehide", () => {
    remember();
    client.stop();
  });
  addEventListener("pageshow", (event) => event.persisted && client.start());
  client.on("change", remember);
  client.start();
}

/** @param {string|undefined} name */
function cookie(name) {
  const found = name && document.cookie.split("; ").find((pair) => pair.startsWith(`${name}=`));
  return found ? decodeURIComponent(found.slice(name.length + 1)) : null;
}

const script = /** @type {HTMLScriptElement|null} */ (document.querySelector("script[data-notifications]"));
if (script && !("notifications" in globalThis)) {
  Object.assign(globalThis, { notifications: { ready: load(script) } });
}

export {};
