// Asking for work and awaiting it: ask() sends the request, a JobHandle settles when the job is done.

/**
 * @typedef {import("./client.js").Client} Client
 * @typedef {import("./client.js").Change} Change
 * @typedef {import("./client.js").JobItem} JobItem
 * @typedef {import("./client.js").ProblemDetails} ProblemDetails
 * @typedef {import("./connection.js").Clock} Clock
 * @typedef {{header: string, token: () => string}} Csrf
 * @typedef {{then: (done?: ((job: any) => any)|null, failed?: ((reason: unknown) => any)|null) => any,
 *   catch: (failed: (reason: unknown) => any) => Asked, finally: (run: () => void) => Asked}} Asked
 */

const CHECK_AFTER = 5_000;
const TRIES = 6;
const KEY = "Idempotency-Key";
/** Milliseconds before a request that got no answer is sent again. */
const PAUSES = [1_000, 3_000];
const SAFE = new Set(["GET", "HEAD", "OPTIONS"]);

/** What a server answered instead of a result (RFC 9457); `problem` is its body, `job` the job that failed. */
export class Problem extends Error {
  /**
   * @param {ProblemDetails} problem
   * @param {{status?: number, retryAfter?: number|null, job?: JobItem|null}} [about] retryAfter in seconds
   */
  constructor(problem, { status = problem.status ?? 0, retryAfter = null, job = null } = {}) {
    super(problem.detail || problem.title);
    this.name = "Problem";
    this.problem = problem;
    this.status = status;
    this.retryAfter = retryAfter;
    this.job = job;
  }
}

/** One job: `await` it for its result; "progress" (Progress), "change" and "done" (JobItem) tell how it goes. */
export class JobHandle extends EventTarget {
  #result;
  #over;
  /** @type {{resolve: (item: JobItem|null) => void, reject: (reason: unknown) => void}} */
  #settle;
  /** @type {Promise<any>|null} */
  #promise = null;

  /**
   * @param {string|null} id null: there is no job, the result was in the answer
   * @param {(item: JobItem|null) => Promise<any>} result reads the result of a job that succeeded
   */
  constructor(id, result) {
    super();
    this.id = id;
    /** @type {JobItem|null} the newest that is known */
    this.item = null;
    this.#result = result;
    /** @type {any} */
    let settle;
    this.#over = new Promise((resolve, reject) => (settle = { resolve, reject }));
    this.#over.catch(() => undefined); // Nobody has to await a job.
    this.#settle = settle;
  }

  /**
   * @param {(result: any) => any} [done]
   * @param {(reason: unknown) => any} [failed] gets a Problem
   * @returns {Promise<any>}
   */
  then(done, failed) {
    this.#promise ??= this.#over.then((item) => this.#outcome(item));
    return this.#promise.then(done, failed);
  }

  /** @param {(reason: unknown) => any} failed */
  catch(failed) {
    return this.then(undefined, failed);
  }

  /** @param {() => void} run */
  finally(run) {
    return this.then().finally(run);
  }

  /**
   * @param {"progress"|"change"|"done"} type
   * @param {(detail: any) => void} listener
   * @returns {() => void} ends the subscription
   */
  on(type, listener) {
    const handler = (/** @type {Event} */ event) => listener(/** @type {CustomEvent} */ (event).detail);
    this.addEventListener(type, handler);
    return () => this.removeEventListener(type, handler);
  }

  /** @param {JobItem} item */
  update(item) {
    const before = this.item;
    if (before && item.version <= before.version) return;
    this.item = item;
    this.#tell("change", item);
    if (item.progress && JSON.stringify(item.progress) !== JSON.stringify(before?.progress)) {
      this.#tell("progress", item.progress);
    }
    if (!item.done) return;
    this.#settle.resolve(item);
    this.#tell("done", item);
  }

  /** The result is there without a job. */
  settle() {
    this.#settle.resolve(null);
  }

  /** @param {Problem} problem the job cannot be followed any more */
  abandon(problem) {
    this.#settle.reject(problem);
  }

  /** @param {JobItem|null} item */
  #outcome(item) {
    if (item === null || item.state === "succeeded") return this.#result(item);
    const cancelled = { type: "about:blank", title: item.state === "cancelled" ? "Cancelled" : "Failed" };
    throw new Problem(item.error ?? cancelled, { job: item });
  }

  /**
   * @param {string} type
   * @param {unknown} detail
   */
  #tell(type, detail) {
    this.dispatchEvent(new CustomEvent(type, { detail }));
  }
}

export class Jobs {
  #client;
  #fetch;
  #clock;
  #origin;
  #csrf;
  #jobUrl;
  /** @type {Map<string, JobHandle>} those that are awaited */
  #handles = new Map();
  /** @type {Set<string>} */
  #reading = new Set();

  /**
   * @param {object} options
   * @param {Client} options.client
   * @param {typeof fetch} options.fetch
   * @param {Clock} options.clock
   * @param {string} options.origin of the page: only requests to it carry the CSRF token
   * @param {Csrf} options.csrf
   * @param {(id: string) => string} options.jobUrl
   */
  constructor({ client, fetch, clock, origin, csrf, jobUrl }) {
    this.#client = client;
    this.#fetch = fetch;
    this.#clock = clock;
    this.#origin = origin;
    this.#csrf = csrf;
    this.#jobUrl = jobUrl;
    client.on("change", (change) => this.#follow(change));
    client.on("state", (state) => state === "signed_out" && this.#abandonAll());
  }

  /**
   * fetch() for a view that answers with a job. `await ask(…)` gives a JobHandle, awaiting that its result; a view
   * that answered with the result itself gives a handle that is settled already. An unsafe request to this site has an
   * Idempotency-Key, and is sent again with it, twice at most, where the network fails.
   * @param {string} url
   * @param {RequestInit} [init]
   * @returns {Asked} rejects with Problem, or with what fetch() throws
   */
  ask(url, init = {}) {
    return handOver(this.#ask(url, init));
  }

  /**
   * @param {string|JobItem|Response} from an id, an item, or a response of 202
   * @param {string} [href] where the job is read, if not at the usual place
   * @returns {JobHandle} the same one for the same job, while it runs
   */
  job(from, href) {
    if (from instanceof Response) return this.#located(from);
    const id = typeof from === "string" ? from : from.id;
    const item = typeof from === "string" ? null : from;
    const handle = this.#handles.get(id) ?? this.#open(id, href);
    if (item) this.#client.merge([item]);
    const held = this.#client.stream.jobs.get(id) ?? null;
    if (held) this.#update(handle, held);
    if (!handle.item) void this.#read(id, href);
    else if (!handle.item.done) this.#checkLater(handle, href);
    return handle;
  }

  /**
   * A request to the page's own origin, as ask() sends it, for other changes than jobs.
   * @param {string} url
   * @param {RequestInit} [init]
   * @returns {Promise<any>} the JSON of the answer, or null; rejects with Problem
   */
  async send(url, init = {}) {
    const response = await this.#request(url, init);
    return this.#body(response);
  }

  /**
   * @param {string} url
   * @param {RequestInit} init
   * @returns {Promise<{job: JobHandle}>}
   */
  async #ask(url, init) {
    const response = await this.#insist(url, init);
    const body = await this.#body(response);
    if (body?.kind === "job")
      return { job: this.job(body, response.headers.get("Location") ?? body.links.self) };
    if (response.status === 202) return { job: this.#located(response) };
    const answered = new JobHandle(null, async () => body);
    answered.settle();
    return { job: answered };
  }

  /**
   * A request that may change something here, and got no answer, is sent again: its key says that it is the same one.
   * @param {string} url
   * @param {RequestInit} init
   */
  async #insist(url, init) {
    if (!this.#changesHere(url, init)) return this.#request(url, init);
    const headers = new Headers(init.headers);
    if (!headers.has(KEY)) headers.set(KEY, randomKey());
    for (const pause of PAUSES) {
      try {
        return await this.#request(url, { ...init, headers });
      } catch (error) {
        // Only the network's: whoever aborts wants no answer. A stream can be read once.
        if (!(error instanceof TypeError) || init.body instanceof ReadableStream) throw error;
      }
      await new Promise((resolve) => this.#clock.setTimeout(() => resolve(null), pause));
    }
    return this.#request(url, { ...init, headers });
  }

  /**
   * @param {string} url
   * @param {RequestInit} init
   */
  #request(url, init) {
    const headers = new Headers(init.headers);
    if (!headers.has("Accept")) headers.set("Accept", "application/json");
    if (this.#changesHere(url, init)) headers.set(this.#csrf.header, this.#csrf.token());
    return this.#fetch(url, { credentials: "same-origin", ...init, headers });
  }

  /**
   * @param {string} url
   * @param {RequestInit} init
   */
  #changesHere(url, init) {
    const unsafe = !SAFE.has((init.method ?? "GET").toUpperCase());
    return unsafe && new URL(url, this.#origin).origin === this.#origin;
  }

  /** @param {Response} response */
  async #body(response) {
    const json = /json/.test(response.headers.get("Content-Type") ?? "");
    const body = json ? await response.json() : null;
    if (response.ok) return body;
    const title = response.statusText || `HTTP ${response.status}`;
    throw new Problem(body?.title ? body : { type: "about:blank", title }, {
      status: response.status,
      retryAfter: Number(response.headers.get("Retry-After")) || null,
    });
  }

  /** @param {Response} response */
  #located(response) {
    const href = response.headers.get("Location") ?? "";
    const id = /([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})\/?$/.exec(href)?.[1];
    if (!id) throw new TypeError(`${response.url} answered ${response.status} without the Location of a job`);
    return this.job(id, href);
  }

  /**
   * @param {string} id
   * @param {string} [href]
   */
  #open(id, href) {
    const handle = new JobHandle(id, (item) => this.#resultOf(item));
    this.#handles.set(id, handle);
    return handle;
  }

  /** @param {JobItem|null} item */
  async #resultOf(item) {
    if (item?.links.result) return this.#get(item.links.result);
    // A job has no address of its own where the project has not mounted the app's URLs.
    throw new Problem(
      { type: "about:blank", title: "No result", detail: "The result of this job has no address." },
      { job: item },
    );
  }

  /** @param {Change} change */
  #follow({ jobs, listed }) {
    for (const item of jobs) {
      const handle = this.#handles.get(item.id);
      if (handle) this.#update(handle, item);
    }
    if (listed) void this.#readMissing(listed);
  }

  /**
   * @param {JobHandle} handle
   * @param {JobItem} item
   */
  #update(handle, item) {
    if (item.done) this.#handles.delete(item.id);
    handle.update(item);
  }

  /**
   * The server lists the active jobs: one that is thought active and is not among them has ended, or did not fit.
   * @param {Set<string>} listed
   */
  async #readMissing(listed) {
    const active = [...this.#client.stream.jobs.values()].filter((job) => !job.done);
    const links = new Map(active.map((job) => [job.id, job.links.self]));
    for (const id of this.#handles.keys()) if (!links.has(id)) links.set(id, this.#jobUrl(id));
    for (const [id, href] of links) if (!listed.has(id)) await this.#read(id, href);
  }

  /**
   * The job may have ended between its request and the page's position.
   * @param {JobHandle} handle
   * @param {string} [href]
   */
  #checkLater(handle, href) {
    const version = handle.item?.version;
    this.#clock.setTimeout(() => {
      if (handle.item?.version === version) void this.#read(/** @type {string} */ (handle.id), href);
    }, CHECK_AFTER);
  }

  /**
   * @param {string} id
   * @param {string} [href]
   */
  async #read(id, href) {
    if (this.#reading.has(id)) return;
    this.#reading.add(id);
    try {
      this.#client.merge([await this.#get(href ?? this.#jobUrl(id))]);
    } catch (error) {
      // Where the server is away, the next sync asks again.
      if (error instanceof Problem && error.status < 500 && error.status !== 429) this.#abandon(id, error);
    } finally {
      this.#reading.delete(id);
    }
  }

  /**
   * @param {string} id
   * @param {Problem} problem
   */
  #abandon(id, problem) {
    this.#client.stream.jobs.delete(id);
    this.#handles.get(id)?.abandon(problem);
    this.#handles.delete(id);
  }

  #abandonAll() {
    const problem = new Problem({ type: "about:blank", title: "Signed out" }, { status: 401 });
    for (const id of [...this.#handles.keys()]) this.#abandon(id, problem);
  }

  /**
   * Reads, and again after a pause while the server or the network is away.
   * @param {string} url
   */
  async #get(url) {
    for (let tries = 1; ; tries += 1) {
      try {
        return await this.#body(await this.#request(url, {}));
      } catch (error) {
        const passing =
          error instanceof Problem
            ? error.status === 503 || error.status === 429
            : error instanceof TypeError;
        if (!passing || tries === TRIES) throw error;
        const seconds = (error instanceof Problem && error.retryAfter) || 2 ** (tries - 1);
        await new Promise((resolve) => this.#clock.setTimeout(() => resolve(null), seconds * 1000));
      }
    }
  }
}

/** Also where there is no crypto.randomUUID: on a page without HTTPS. */
function randomKey() {
  return [...crypto.getRandomValues(new Uint8Array(16))].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}

/**
 * A promise flattens thenables, and a JobHandle is one: `await ask()` would wait for the job to end. So `then` is
 * hidden from the language's own resolve function at the moment when it looks.
 * @param {Promise<{job: any}>} asked
 * @returns {Asked}
 */
function handOver(asked) {
  return {
    /**
     * @param {((job: any) => any)|null} [done]
     * @param {((reason: unknown) => any)|null} [failed]
     */
    then(done, failed) {
      if (!done) return failed ? this.catch(failed) : this;
      return asked.then(({ job }) => (isNative(done) ? unseen(job, done) : done(job)), failed);
    },
    catch(failed) {
      return handOver(asked.catch(async (reason) => ({ job: await failed(reason) })));
    },
    finally(run) {
      return handOver(asked.finally(run));
    },
  };
}

/** @param {Function} fn */
function isNative(fn) {
  return Function.prototype.toString.call(fn).includes("[native code]");
}

/**
 * @param {JobHandle} job
 * @param {(job: JobHandle) => any} resolve
 */
function unseen(job, resolve) {
  if (!(job instanceof JobHandle)) return resolve(job);
  Object.defineProperty(job, "then", { value: undefined, configurable: true });
  try {
    return resolve(job);
  } finally {
    // @ts-ignore: the method of the class shows again.
    delete job.then;
  }
}
