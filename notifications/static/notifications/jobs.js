// Enqueues jobs over HTTP and follows them: ask() returns a JobHandle (job_handle.js) at once.

/**
 * @typedef {import("./client.js").Client} Client
 * @typedef {import("./client.js").Change} Change
 * @typedef {import("./client.js").JobItem} JobItem
 * @typedef {import("./requests.js").Requests} Requests
 * @typedef {import("./job_handle.js").FollowedJob} FollowedJob
 * @typedef {import("./job_handle.js").JobHandle} JobHandle
 * @typedef {import("./connection.js").Clock} Clock
 */

/** A job of which no change arrives for this long after it was requested is read once over HTTP. */
const FIRST_CHANGE_TIMEOUT_MS = 5_000;
/** Callers share one read: a request that hangs in a dead connection would block all of them. */
const READ_TIMEOUT_MS = 60_000;

export class Jobs {
  #options;
  /** @type {Map<string, Set<FollowedJob>>} by job id, until the job is done */
  #followed = new Map();
  /** @type {Set<string>} ids of jobs that are being read */
  #reading = new Set();
  /** @type {import("./job_handle.js").JobActions} */
  #actions = {
    readResult: (item, signal) => this.#readResult(item, signal),
    cancel: (job) => this.#cancel(job),
    retry: (job) => this.#start((next) => this.#retry(job, next)),
    on: (job, type, listener) => this.#on(job, type, listener),
  };

  /**
   * @param {object} options
   * @param {Client} options.client
   * @param {Requests} options.requests
   * @param {typeof import("./requests.js")} options.errors its classes; the modules do not import one another
   * @param {typeof import("./job_handle.js").FollowedJob} options.FollowedJob
   * @param {Clock} options.clock
   * @param {(id: string) => string} options.jobUrl
   * @param {(name: string) => Promise<any>} options.loadModules the modules that few pages need
   */
  constructor(options) {
    this.#options = options;
    const { client } = options;
    client.on("change", (change) => this.#handleChange(change));
    client.on("state", (state) => state === "signed_out" && this.#rejectAll());
  }

  /**
   * Send a request to a view that answers with a job, and return its handle at once. An unsafe request to the page's
   * origin carries an Idempotency-Key, and is sent again, at most twice, where the network fails.
   * @param {string} url
   * @param {RequestInit} [init] as for fetch(). Its signal ends the request and the waiting; the job goes on.
   * @returns {JobHandle}
   */
  ask(url, init = {}) {
    return this.#start((job) => this.#request(job, url, init), init.signal);
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
    // Not one that the signal of another caller may abort.
    const followed = [...(this.#followed.get(id) ?? [])].find(({ signal }) => !signal);
    const job = followed ?? this.#create();
    this.#follow(job, { id, href, item });
    return job.handle;
  }

  /**
   * Send a request that changes something other than a job.
   * @param {string} url
   * @param {RequestInit} [init]
   * @returns {Promise<any>} the JSON of the response, or null; rejects with Problem
   */
  async send(url, init = {}) {
    return this.#options.requests.parse(await this.#options.requests.send(url, init));
  }

  /**
   * Send a form of a page of the app: see Requests.sendForm().
   * @param {string} url
   * @param {FormData|URLSearchParams} body
   */
  sendForm(url, body) {
    return this.#options.requests.sendForm(url, body);
  }

  /**
   * Send a request to a view of the project that enqueues nothing, and return its response as it is.
   * @param {string} url
   * @param {RequestInit} init
   */
  request(url, init) {
    return this.#options.requests.send(url, init);
  }

  /** @param {AbortSignal|null} [signal] */
  #create(signal) {
    return new this.#options.FollowedJob(this.#actions, signal);
  }

  /**
   * @param {(job: FollowedJob) => Promise<void>} request sends the request that the job is accepted by
   * @param {AbortSignal|null} [signal]
   */
  #start(request, signal) {
    const job = this.#create(signal);
    request(job).catch((error) => job.reject(error));
    return job.handle;
  }

  /**
   * @param {FollowedJob} job
   * @param {string} url
   * @param {RequestInit} init
   */
  async #request(job, url, init) {
    const response = await this.#options.requests.sendIdempotently(url, init);
    const body = await this.#options.requests.parse(response);
    if (body?.kind === "job") {
      const href = response.headers.get("Location") ?? body.links.self;
      this.#follow(job, { id: body.id, href, item: body });
    } else if (response.status === 202) {
      this.#follow(job, parseLocation(response));
    } else {
      job.resolve(body);
    }
  }

  /** @param {FollowedJob} job */
  async #cancel(job) {
    const item = await job.getItem();
    if (item?.state === "cancelled") return;
    const href = this.#requireLink(item, "cancel");
    this.#options.client.merge([await this.send(href, { method: "POST" })]);
  }

  /**
   * @param {FollowedJob} job
   * @param {FollowedJob} next
   */
  async #retry(job, next) {
    const href = this.#requireLink(await job.getItem(), "retry");
    // Once: a request that is sent again would be refused, or retry a job that has failed again meanwhile.
    const item = await this.send(href, { method: "POST" });
    this.#follow(next, { id: item.id, href: item.links.self, item });
  }

  /**
   * Listen to what few pages need. Its script is loaded first.
   * @param {FollowedJob} job
   * @param {"output"|"question"} type
   * @param {(detail: any) => void} listener
   */
  #on(job, type, listener) {
    const controller = new AbortController();
    const options = { ...this.#options, jobs: this, signal: controller.signal };
    void options
      .loadModules("output")
      .then((modules) => modules.job_events.listen(job, type, listener, options, modules));
    return () => controller.abort();
  }

  /**
   * @param {JobItem|null} item
   * @param {"cancel"|"retry"} action
   */
  #requireLink(item, action) {
    const href = item?.links[action];
    if (href) return href;
    const detail = item
      ? `It is not possible to ${action} the job: it is ${item.state}.`
      : "There is no job: the response was the result.";
    throw new this.#options.errors.RequestRefused({
      type: "about:blank",
      title: "Conflict",
      status: 409,
      detail,
    });
  }

  /**
   * @param {FollowedJob} job
   * @param {{id: string, href?: string, item?: JobItem|null}} location
   */
  #follow(job, { id, href, item = null }) {
    if (job.signal?.aborted) return;
    job.accept(id);
    this.#followed.set(id, (this.#followed.get(id) ?? new Set()).add(job));
    if (item) this.#options.client.merge([item]);
    const known = this.#options.client.stream.jobs.get(id);
    if (known) this.#update(known);
    if (!job.item) void this.read(id, href);
    else if (!job.item.done) this.#readIfUnchanged(job, href);
  }

  /**
   * @param {JobItem} item
   * @param {AbortSignal|null} [signal]
   */
  async #readResult(item, signal) {
    if (item.state !== "succeeded") {
      const title = item.state === "cancelled" ? "Cancelled" : "Failed";
      throw new this.#options.errors[`Job${title}`](item.error ?? { type: "about:blank", title }, {
        job: item,
      });
    }
    if (item.links.result) return this.#options.requests.read(item.links.result, signal);
    // Without the app's URLs in the project, a job has no address.
    const detail = "The result of this job has no address.";
    throw new this.#options.errors.Problem(
      { type: "about:blank", title: "No result", detail },
      { job: item },
    );
  }

  /** @param {Change} change */
  #handleChange({ jobs, activeIds, reset }) {
    for (const item of jobs) this.#update(item, reset);
    if (activeIds) void this.#readMissing(activeIds);
  }

  /**
   * @param {JobItem} item
   * @param {boolean} [isReset]
   */
  #update(item, isReset) {
    const jobs = this.#followed.get(item.id) ?? [];
    if (item.done) this.#followed.delete(item.id);
    for (const job of jobs) job.update(item, isReset);
  }

  /**
   * Read the jobs that are active here and missing from the server's list: they have ended, or did not fit.
   * @param {Set<string>} activeIds
   */
  async #readMissing(activeIds) {
    const active = [...this.#options.client.stream.jobs.values()].filter((job) => !job.done);
    const links = new Map(active.map((job) => [job.id, job.links.self]));
    for (const id of this.#followed.keys()) if (!links.has(id)) links.set(id, this.#options.jobUrl(id));
    for (const [id, href] of links) if (!activeIds.has(id)) await this.read(id, href);
  }

  /**
   * Read a job later unless it changes: it may have ended between its request and the position of the page.
   * @param {FollowedJob} job
   * @param {string} [href]
   */
  #readIfUnchanged(job, href) {
    const version = job.item?.version;
    this.#options.clock.setTimeout(() => {
      if (job.item?.version === version && !job.signal?.aborted)
        void this.read(/** @type {string} */ (job.id), href);
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
    const url = href ?? this.#options.jobUrl(id);
    try {
      this.#options.client.merge([await this.#options.requests.read(url, null, READ_TIMEOUT_MS)]);
    } catch (error) {
      // While the server or the network is away, the job stays followed: the next catch-up reads it again.
      if (error instanceof this.#options.errors.Problem && error.status < 500 && error.status !== 429)
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
    this.#options.client.stream.jobs.delete(id);
    for (const job of this.#followed.get(id) ?? []) job.reject(error);
    this.#followed.delete(id);
  }

  #rejectAll() {
    for (const id of [...this.#followed.keys()]) this.#reject(id, this.#options.errors.createSignedOut());
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
