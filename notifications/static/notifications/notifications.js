// Defines the elements of a page, and gives each of them what it works with: client, jobs, texts, and the requests about
// notifications.

/**
 * @typedef {import("./client.js").Client} Client
 * @typedef {import("./client.js").Notification} Notification
 * @typedef {import("./jobs.js").Jobs} Jobs
 * @typedef {import("./connect.js").Connection} Connection
 * @typedef {import("./connect.js").PageData} PageData
 * @typedef {"read"|"unread"|"archive"|"unarchive"} Verb
 * @typedef {{key: string, title: string, body: string, count: number, more: boolean, unread: boolean, level: Notification["level"]}} Group
 * @typedef {{items: Notification[], groups: Record<string, Group>, seq: number}} LatestPage with `grouped=1` the groups by the
 *   ids of the items that stand for them; `seq` is the position up to which it was read
 * @typedef {{strings: Record<string, string>, marks: Record<Verb, string>, action: string, doneStates: string[],
 *   icons: Record<string, string>, sheet?: string, push?: {key: string}}} PageContent
 *   the JSON that the template tag wrote: texts by key, addresses by verb, the address of an action, the states of done jobs,
 *   the paths of icons by name, the style sheet if the page has only the first styles of it, and the key of the site for push
 * @typedef {{name: string, inboxUrl: string, healthUrl: string, client: Client, jobs: Jobs, dom: typeof import("./dom.js"),
 *   rows: import("./rows.js").Rows, inbox?: {getSelectedRows: () => HTMLElement[], change: (verb: Verb, rows: HTMLElement[]) => Promise<void>, getLastSave: () => Promise<unknown>},
 *   loadModules: (name: string) => Promise<any>,
 *   localization: import("./localization.js").Localization, clock: import("./connection.js").Clock,
 *   isOut: () => boolean, onOutage: (listener: (isOut: boolean) => void) => () => void,
 *   createSignInLink: () => HTMLAnchorElement, describe: (error: any, unreachable?: string) => string,
 *   newerThan: (raised: number) => Notification[],
 *   pendingToasts: Map<string, {item: Notification, isLive: boolean}>,
 *   shownIds: Set<string>, openLists: Set<(item: Notification) => boolean>, doneStates: string[], icons: Record<string, string>,
 *   readStored: typeof import("./connect.js").readStored, store: typeof import("./connect.js").store,
 *   questions: number, seenQuestions: number, countQuestions: () => Promise<void>,
 *   loadLatest: (count: number, query?: string) => Promise<LatestPage>,
 *   getActionUrl: (id: string, number: number) => string,
 *   localizeUrl: (url: string|null) => string|null,
 *   mark: (verb: Verb, items: Pick<Notification, "id"|"raised">[]) => Promise<any>,
 *   markGroup: (verb: Verb, entry: import("./bell_panel.js").Entry, upTo: number) => Promise<void>,
 *   answer: (url: string) => Promise<unknown>,
 *   markReadUpTo: (raised: number) => Promise<unknown>,
 *   markSeen: (raised: number) => Promise<void>}} Page what each element gets: `newerThan` returns the notifications outside
 *   the archive that were raised later, `rows` is there once the modules "rows", "panel" or "inbox" are loaded, `questions` is how many are open and `seenQuestions` how many of them were seen, `shownIds` are those of notifications about what the page itself shows, and each of `openLists` says whether a list on the screen shows or offers a notification
 */

/** An outage shorter than this is not shown. */
const OUTAGE_NOTICE_MS = 5_000;
/** "stopped": the page is left, or in the back-forward cache, in which no time is counted. */
const REACHABLE_STATES = new Set(["live", "polling", "signed_out", "stopped"]);
/** Relative times of the page are rendered again after this long. */
const TIMES_INTERVAL_MS = 20_000;
/** As many as the server takes. */
const MAX_RECEIPTS = 50;
/** Of one request that marks notifications; as many as the server takes. */
const MAX_IDS = 200;

/**
 * Define the elements of the page: bell, toasts, inbox, jobs, forms and times.
 * @param {Record<string, any>} modules by name
 * @param {Connection} connection
 * @param {PageData} data
 * @param {PageContent} content
 * @param {(name: string) => Promise<Record<string, any>>} loadModules loads those of "inbox", "job", "output", "preferences" or "push" where a page has such
 *   an element, which may be inserted later, for example by Turbo, and "panel" when the bell or a toast needs them
 */
export function defineElements(modules, connection, data, content, loadModules) {
  const { name, client, jobs, clock } = connection;
  const { strings, marks, action, doneStates, icons, sheet, push } = content;
  const { PLACEHOLDER_ID, readStored, store } = /** @type {typeof import("./connect.js")} */ (
    modules.connect
  );
  const localization = /** @type {Page["localization"]} */ (
    new modules.localization.Localization({
      strings,
      language: document.documentElement.lang,
      now: clock.now,
    })
  );
  let loadingSheet = /** @type {Promise<unknown>|null} */ (null);
  const load = async (/** @type {string} */ element) => {
    if (sheet) loadingSheet ??= loadSheet(sheet);
    try {
      const [loaded] = await Promise.all([loadModules(element), loadingSheet]);
      if (loaded.rows) page.rows ??= loaded.rows.createRows(page, loaded);
      return loaded;
    } catch (error) {
      loadingSheet = null; // The bell tries again.
      throw error;
    }
  };
  /** @type {Page} */
  const page = {
    name,
    inboxUrl: data.inbox ?? "",
    healthUrl: data.health ?? "",
    questions: Number(data.questions ?? 0),
    seenQuestions: Number(data.badge ?? 0) - Number(data.unseen ?? 0),
    countQuestions: async () => {
      const { questions, badge, unseen } = await jobs.send(`${data.list}1&questions=1&background=1`);
      if (client.state !== "signed_out") Object.assign(page, { questions, seenQuestions: badge - unseen });
    },
    client,
    jobs,
    dom: modules.dom,
    localization,
    clock,
    createSignInLink: () => {
      const url = new URL(data.signIn ?? "", location.href);
      if (data.signInNext) url.searchParams.set(data.signInNext, location.pathname + location.search);
      return page.dom.createLink("", localization.text("sign_in"), url.href);
    },
    // Say why a request has failed: as the server says it, or that it cannot be reached.
    describe: ({ problem, status }, unreachable = localization.text("unsaved")) =>
      problem?.detail || (status ? localization.text("refused", { status }) : unreachable),
    newerThan: (raised) =>
      [...client.stream.notifications.values()].filter(
        (item) => item.raised > raised && item.archived_at === null,
      ),
    shownIds: new Set(),
    openLists: new Set(),
    pendingToasts: new Map(),
    doneStates,
    icons,
    readStored,
    store,
    ...watchOutages(client, clock),
    // The address of the action with the number 0.
    getActionUrl: (id, number) => action.replace(PLACEHOLDER_ID, id).replace(/0(?=\/[^/]*$)/, String(number)),
    // Links in frames are the same for all readers: those to the app's own pages are in the project's default language.
    localizeUrl: (url) => {
      const { inbox, defaultInbox } = data;
      if (!url || !defaultInbox) return url;
      const isOwn = url === defaultInbox || url.startsWith(`${defaultInbox}jobs/`);
      return isOwn ? `${inbox}${url.slice(defaultInbox.length)}` : url;
    },
    ...notificationActions(client, jobs, /** @type {Record<string, string>} */ (data), marks, clock),
    loadModules: load,
    rows: /** @type {any} */ (null),
  };
  for (const element of ["bell", "toasts", "inbox", "job", "output", "preferences", "push"])
    defineElement(element, async (node, signal) => {
      const loaded = modules[element] ? modules : await load(element);
      if (!signal.aborted)
        (loaded[element] ?? loaded[`${element}_element`]).connectElement(node, page, signal, loaded);
    });
  modules.forms.watchForms(page);
  if (document.querySelector("[data-post], button[data-danger]")) void load("rows").catch(() => undefined); // On pages of notifications and questions.
  if (push && push.key !== readStored("notifications.push")) void loadModules("push_key");
  void loadModules("contrast").then(({ bell_contrast }) => bell_contrast?.checkBells()); // With DEBUG.
  const updateTimes = () => {
    page.dom.updateTimes(document, localization);
    clock.setTimeout(updateTimes, TIMES_INTERVAL_MS);
  };
  updateTimes();
}

/**
 * Load a style sheet.
 * @param {string} href
 */
function loadSheet(href) {
  const link = document.createElement("link");
  const { nonce } = /** @type {HTMLElement} */ (document.querySelector("script[data-notifications]"));
  return new Promise((resolve, reject) => {
    Object.assign(link, { rel: "stylesheet", href, nonce, onload: resolve, onerror: reject });
    document.head.append(link);
  });
}

/**
 * Define an element that is connected to the page each time that it is inserted.
 * @param {string} name
 * @param {(element: HTMLElement, signal: AbortSignal) => unknown} connect the signal is aborted when it is removed
 */
function defineElement(name, connect) {
  const tag = `notifications-${name}`;
  class PageElement extends HTMLElement {
    #connection = new AbortController();

    connectedCallback() {
      this.#connection = new AbortController();
      connect(this, this.#connection.signal);
    }

    disconnectedCallback() {
      this.#connection.abort();
    }
  }

  if (!customElements.get(tag)) customElements.define(tag, PageElement);
}

/**
 * Return the state of the connection as people see it: an outage is one that has lasted 5 s, however often the client
 * has tried to reconnect meanwhile.
 * @param {Client} client
 * @param {import("./connection.js").Clock} clock
 * @returns {Pick<Page, "isOut"|"onOutage">}
 */
export function watchOutages(client, clock) {
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
 * @param {import("./connection.js").Clock} clock
 * @returns {Pick<Page, "loadLatest"|"mark"|"markGroup"|"answer"|"markReadUpTo"|"markSeen">}
 */
export function notificationActions(client, jobs, data, markUrls, clock) {
  const post = async (/** @type {string} */ url, /** @type {object} */ body) => {
    const headers = { "Content-Type": "application/json" };
    const undos = /** @type {object[]} */ ([]);
    // One request marks at most 1,000 notifications.
    for (let next = {}, more = true; more; ) {
      const text = JSON.stringify({ ...body, ...next });
      const answer = await jobs.send(url, { method: "POST", headers, body: text, keepalive: true });
      more = answer.more;
      if (answer.next) next = { after: answer.next };
      undos.push(answer.undo);
    }
    client.refresh();
    return undos;
  };
  // The URL ends with "limit=".
  let seenUpTo = 0;
  /** Positions of notifications, with the times at which they were received, and then shown in a toast. */
  const receipts = /** @type {number[][]} */ ([]);
  client.on("change", ({ op, reset, notifications }) => {
    if (reset) seenUpTo = 0; // A restored backup has a lower position.
    for (const { seq, raised } of notifications)
      if (op === "change" && seq === raised) receipts.push([raised, clock.now()]);
    receipts.splice(0, receipts.length - MAX_RECEIPTS);
  });
  addEventListener("notifications:toast", (/** @type {any} */ { detail }) => {
    for (const { raised } of detail) receipts.find(([known]) => known === raised)?.push(clock.now());
  });
  return {
    loadLatest: async (count, query = "") => {
      const latest = await jobs.send(data.list + count + query);
      if (client.state !== "signed_out") client.merge(latest.items);
      return latest;
    },
    mark: async (verb, items) => {
      // One may have been raised again since its row was drawn.
      const raised = items.map((item) => client.stream.notifications.get(item.id)?.raised ?? item.raised);
      const up_to = Math.max(...raised);
      const ids = items.map((item) => item.id);
      const undos = [];
      while (ids.length) undos.push(...(await post(markUrls[verb], { ids: ids.splice(0, MAX_IDS), up_to })));
      return undos;
    },
    markGroup: async (verb, entry, upTo) => {
      const undos = [];
      const bodies = verb === "unarchive" ? (entry.undos ?? []) : [{ group: entry.key, up_to: upTo }];
      for (const body of bodies) undos.push(...(await post(markUrls[verb], body)));
      entry.undos = undos;
    },
    answer: (url) => post(url, {}),
    markReadUpTo: (raised) => post(markUrls.read, { up_to: raised }),
    // Once for each position, and only while something is unseen: opening the bell again sends nothing.
    markSeen: async (raised) => {
      if (raised <= seenUpTo || client.unseen === 0) return;
      seenUpTo = raised;
      try {
        await post(data.seen, {
          up_to: raised,
          // The server stores those that it had not seen before.
          receipts: receipts.map(([raised, received, toast]) => ({
            raised,
            received_ago_ms: clock.now() - received,
            toast_ago_ms: clock.now() - toast, // null without a toast
          })),
        });
      } catch {
        seenUpTo = 0; // tried again with the next change, or when the list is opened again
      }
    },
  };
}
