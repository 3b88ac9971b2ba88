// Enqueues jobs over HTTP and follows them: ask() returns a JobHandle, whose promises settle as the job goes on.

/**
 * @typedef {import("./client.js").Client} Client
 * @typedef {import("./client.js").Change} Change
 * @typedef {import("./client.js").JobItem} JobItem
 * @typedef {import("./requests.js").Requests} Requests
 * @typedef {typeof import("./requests.js").Problem} ProblemClass
 * @typedef {import("./connection.js").Clock} Clock
 */

/** A job of which no change arrives for this long after it was requested is read once over HTTP. */
const FIRST_CHANGE_TIMEOUT_MS = 5_000;

/** One job. Events: "progress" (detail: Progress), "change" and "done" (detail: JobItem). Not a promise itself. */
export class JobHandle extends EventTarget {
  #readResult;
  #acceptance = createDeferred();
  #outcome = createDeferred();
  /** @type {Promise<any>|null} */
  #result = null;

  /** @param {(item: JobItem) => Promise<any>} readResult reads the result of a job that is done */
  constructor(readResult) {
    super();
    this.#readResult = readResult;
    /** @type {string|null} null until the job is accepted */
    this.id = null;
    /** @type {JobItem|null} the newest version that is known */
    this.item = null;
  }

  /**
   * Resolves with the id of the job once the server has accepted it, or with null if the response was the result
   * itself. Rejects with Problem, or with what fetch() throws.
   * @returns {Promise<string|null>}
   */
  get accepted() {
    return this.#acceptance.promise;
  }

  /**
   * Resolves with the result of the job. Rejects like `accepted`, and with Problem if the job fails or is cancelled.
   * The result is read once, and only if this property is used.
   * @returns {Promise<any>}
   */
  get result() {
    this.#result ??= this.#outcome.promise.then(({ item, value }) => (item ? this.#readResult(item) : value));
    return this.#result;
  }

  /**
   * @param {"progress"|"change"|"done"} type
   * @param {(detail: any) => void} listener
   * @returns {() => void} removes the listener
   */
  on(type, listener) {
    const handler = (/** @type {Event} */ event) => listener(/** @type {CustomEvent} */ (event).detail);
    this.addEventListener(type, handler);
    return () => this.removeEventListener(type, handler);
  }

  /**
   * Called by Jobs: the server has accepted the job.
   * @param {string} id
   */
  accept(id) {
    this.id = id;
    this.#acceptance.resolve(id);
  }

  /**
   * Called by Jobs: a version of the job has arrived. Older versions are ignored.
   * @param {JobItem} item
   */
  update(item) {
    const previous = this.item;
    if (previous && item.version <= previous.version) return;
    this.item = item;
    this.#emit("change", item);
    if (item.progress && JSON.stringify(item.progress) !== JSON.stringify(previous?.progress)) {
      this.#emit("progress", item.progress);
    }
    if (!item.done) return;
    this.#outcome.resolve({ item });
    this.#emit("done", item);
  }

  /**
   * Called by Jobs: the response was the result, and there is no job.
   * @param {unknown} value
   */
  resolve(value) {
    this.#acceptance.resolve(null);
    this.#outcome.resolve({ value });
  }

  /**
   * Called by Jobs: the request failed, or the job cannot be followed any more.
   * @param {unknown} error
   */
  reject(error) {
    this.#acceptance.reject(error);
    this.#outcome.reject(error);
  }

  /**
   * @param {string} type
   * @param {unknown} detail
   */
  #emit(type, detail) {
    this.dispatchEvent(new CustomEvent(type, { detail }));
  }
}

export class Jobs {
  #client;
  #requests;
  #Problem;
  #clock;
  #jobUrl;
  /** @type {Map<string, Set<JobHandle>>} by job id, until the job is done */
  #handles = new Map();
  /** @type {Set<string>} ids of jobs that are being read */
  #reading = new Set();

  /**
   * @param {object} options
   * @param {Client} options.client
   * @param {Requests} options.requests
   * @param {ProblemClass} options.Problem handed in: the modules do not import one another
   * @param {Clock} options.clock
   * @param {(id: string) => string} options.jobUrl
   */
  constructor({ client, requests, Problem, clock, jobUrl }) {
    this.#client = client;
    this.#requests = requests;
    this.#Problem = Problem;
    this.#clock = clock;
    this.#jobUrl = jobUrl;
    client.on("change", (change) => this.#handleChange(change));
    client.on("state", (state) => state === "signed_out" && this.#rejectAll());
  }

  /**
   * Send a request to a view that answers with a job, and return its handle at once. An unsafe request to the page's
   * origin carries an Idempotency-Key, and is sent again, at most twice, where the network fails.
   * @param {string} url
   * @param {RequestInit} [init] as for fetch()
   * @returns {JobHandle}
   */
  ask(url, init = {}) {
    const handle = this.#createHandle();
    this.#request(handle, url, init).catch((error) => handle.reject(error));
    return handle;
  }

  /**
   * Return the handle of a job that exists; the same one for the same job while it is active.
   * @param {string|JobItem|Response} source an id, an item, or a response of 202
   * @param {string} [href] where the job is read, if not at the usual address
   * @returns {JobHandle}
   */
  job(source, href) {
    if (source instanceof Response) {
      const location = parseLocation(source);
      return this.job(location.id, location.href);
    }
    const [id, item] = typeof source === "string" ? [source, null] : [source.id, source];
    const [handle = this.#createHandle()] = this.#handles.get(id) ?? [];
    this.#follow(handle, { id, href, item });
    return handle;
  }

  /**
   * Send a request that changes something other than a job.
   * @param {string} url
   * @param {RequestInit} [init]
   * @returns {Promise<any>} the JSON of the response, or null; rejects with Problem
   */
  async send(url, init = {}) {
    return this.#requests.parse(await this.#requests.send(url, init));
  }

  #createHandle() {
    return new JobHandle((item) => this.#readResult(item));
  }

  /**
   * @param {JobHandle} handle
   * @param {string} url
   * @param {RequestInit} init
   */
  async #request(handle, url, init) {
    const response = await this.#requests.sendIdempotently(url, init);
    const body = await this.#requests.parse(response);
    if (body?.kind === "job") {
      const href = response.headers.get("Location") ?? body.links.self;
      this.#follow(handle, { id: body.id, href, item: body });
    } else if (response.status === 202) {
      this.#follow(handle, parseLocation(response));
    } else {
      handle.resolve(body);
    }
  }

  /**
   * @param {JobHandle} handle
   * @param {{id: string, href?: string, item?: JobItem|null}} job
   */
  #follow(handle, { id, href, item = null }) {
    handle.accept(id);
    const handles = this.#handles.get(id) ?? new Set();
    this.#handles.set(id, handles.add(handle));
    if (item) this.#client.merge([item]);
    const known = this.#client.stream.jobs.get(id);
    if (known) this.#update(known);
    if (!handle.item) void this.read(id, href);
    else if (!handle.item.done) this.#readIfUnchanged(handle, href);
  }

  /** @param {JobItem} item */
  async #readResult(item) {
    if (item.state !== "succeeded") {
      const title = item.state === "cancelled" ? "Cancelled" : "Failed";
      throw new this.#Problem(item.error ?? { type: "about:blank", title }, { job: item });
    }
    if (item.links.result) return this.#requests.read(item.links.result);
    // Without the app's URLs in the project, a job has no address.
    const detail = "The result of this job has no address.";
    throw new this.#Problem({ type: "about:blank", title: "No result", detail }, { job: item });
  }

  /** @param {Change} change */
  #handleChange({ jobs, activeIds }) {
    for (const item of jobs) this.#update(item);
    if (activeIds) void this.#readMissing(activeIds);
  }

  /** @param {JobItem} item */
  #update(item) {
    const handles = this.#handles.get(item.id) ?? [];
    if (item.done) this.#handles.delete(item.id);
    for (const handle of handles) handle.update(item);
  }

  /**
   * Read the jobs that are active here and missing from the server's list: they have ended, or did not fit.
   * @param {Set<string>} activeIds
   */
  async #readMissing(activeIds) {
    const active = [...this.#client.stream.jobs.values()].filter((job) => !job.done);
    const links = new Map(active.map((job) => [job.id, job.links.self]));
    for (const id of this.#handles.keys()) if (!links.has(id)) links.set(id, this.#jobUrl(id));
    for (const [id, href] of links) if (!activeIds.has(id)) await this.read(id, href);
  }

  /**
   * Read a job later unless it changes: it may have ended between its request and the position of the page.
   * @param {JobHandle} handle
   * @param {string} [href]
   */
  #readIfUnchanged(handle, href) {
    const version = handle.item?.version;
    this.#clock.setTimeout(() => {
      if (handle.item?.version === version) void this.read(/** @type {string} */ (handle.id), href);
    }, FIRST_CHANGE_TIMEOUT_MS);
  }

  /**
   * Read a job over HTTP and merge it into the stream. Concurrent calls for one job share one request. Never rejects.
   * @param {string} id
   * @param {string} [href]
   */
  async read(id, href) {
    if (this.#reading.has(id)) return;
    this.#reading.add(id);
    try {
      this.#client.merge([await this.#requests.read(href ?? this.#jobUrl(id))]);
    } catch (error) {
      // While the server or the network is away, the job stays followed: the next catch-up reads it again.
      if (error instanceof this.#Problem && error.status < 500 && error.status !== 429)
        this.#reject(id, error);
    } finally {
      this.#reading.delete(id);
    }
  }

  /**
   * @param {string} id
   * @param {Error} error
   */
  #reject(id, error) {
    this.#client.stream.jobs.delete(id);
    for (const handle of this.#handles.get(id) ?? []) handle.reject(error);
    this.#handles.delete(id);
  }

  #rejectAll() {
    const problem = new this.#Problem({ type: "about:blank", title: "Signed out" }, { status: 401 });
    for (const id of [...this.#handles.keys()]) this.#reject(id, problem);
  }
}

/**
 * Return the id and the address of the job that a response of 202 names.
 * @param {Response} response
 */
function parseLocation(response) {
  const href = response.headers.get("Location") ?? "";
  const id = /([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})\/?$/.exec(href)?.[1];
  if (!id) throw new TypeError(`${response.url} answered ${response.status} without the Location of a job`);
  return { id, href };
}

/** Return a promise with its functions, as Promise.withResolvers() does, which Node has from version 22 on. */
function createDeferred() {
  /** @type {(value: any) => void} */
  let resolve = () => undefined;
  /** @type {(reason: unknown) => void} */
  let reject = () => undefined;
  const promise = new Promise((...functions) => {
    [resolve, reject] = functions;
  });
  promise.catch(() => undefined); // A page need not use every promise of a handle.
  return { promise, resolve, reject };
}
