// One job as a page sees it (JobHandle), and what Jobs keeps of it (FollowedJob), which pages cannot reach.

/**
 * @typedef {import("./client.js").JobItem} JobItem
 * @typedef {import("./client.js").Progress} Progress
 * @typedef {import("./job_events.js").Question} Question
 * @typedef {import("./output_reader.js").OutputPart} OutputPart
 * @typedef {{progress: Progress, change: JobItem, done: JobItem, question: Question, output: OutputPart}} JobEvents
 * @typedef {object} JobActions what a handle has Jobs do
 * @property {(item: JobItem, signal?: AbortSignal|null) => Promise<any>} readResult of a job that is done
 * @property {(job: FollowedJob) => Promise<void>} cancel
 * @property {(job: FollowedJob) => JobHandle} retry
 * @property {(job: FollowedJob, type: "output"|"question", listener: (detail: any) => void) => () => void} on
 */

/** One job. Not a promise itself, so that an async function can return it. */
export class JobHandle {
  #job;
  #actions;
  /** @type {Promise<any>|null} */
  #result = null;

  /**
   * @param {FollowedJob} job
   * @param {JobActions} actions
   */
  constructor(job, actions) {
    this.#job = job;
    this.#actions = actions;
  }

  /**
   * The id of the job, or null until it is accepted.
   * @returns {string|null}
   */
  get id() {
    return this.#job.id;
  }

  /**
   * The newest version of the job that is known, or null.
   * @returns {JobItem|null}
   */
  get item() {
    return this.#job.item;
  }

  /**
   * Resolves with the id of the job once the server has accepted it, or with null if the response was the result
   * itself. Rejects with RequestRefused, with what fetch() throws, or with the reason of the AbortSignal.
   * @returns {Promise<string|null>}
   */
  get accepted() {
    return this.#job.acceptance.promise;
  }

  /**
   * Resolves with the result of the job. Rejects like `accepted`, and with JobFailed or JobCancelled. The result is
   * read once, and only if this property is used.
   * @returns {Promise<any>}
   */
  get result() {
    if (!this.#result) {
      const { outcome, signal } = this.#job;
      this.#result = outcome.promise.then(({ item, value }) =>
        item ? this.#actions.readResult(item, signal) : value,
      );
      this.#result.catch(() => undefined); // A page need not use it.
    }
    return this.#result;
  }

  /**
   * Call a listener with each change of the progress ("progress"), each version of the job ("change"), its last
   * version ("done"), each question that it asks, also one that is open already ("question"), or each part of its
   * output, from the beginning ("output").
   * @template {keyof JobEvents} T
   * @param {T} type
   * @param {(detail: JobEvents[T]) => void} listener
   * @returns {() => void} removes the listener
   */
  on(type, listener) {
    if (type === "output" || type === "question") return this.#actions.on(this.#job, type, listener);
    return this.#job.on(type, listener);
  }

  /**
   * Have the server cancel the job. Resolves once it has accepted that: a running job may take a while to stop.
   * Rejects with RequestRefused if the job has succeeded or failed.
   * @returns {Promise<void>}
   */
  cancel() {
    return this.#actions.cancel(this.#job);
  }

  /**
   * Queue a job again that has failed or was cancelled, and return a new handle for it at once.
   * @returns {JobHandle} its promises reject with RequestRefused if the job cannot be retried
   */
  retry() {
    return this.#actions.retry(this.#job);
  }
}

/** The state behind a handle: only Jobs, which makes it, changes it. */
export class FollowedJob extends EventTarget {
  acceptance = createDeferred();
  outcome = createDeferred();
  /** @type {string|null} */
  id = null;
  /** @type {JobItem|null} */
  item = null;
  /**
   * @param {JobActions} actions
   * @param {AbortSignal|null} [signal] ends the waiting, not the job
   */
  constructor(actions, signal = null) {
    super();
    this.signal = signal;
    this.handle = new JobHandle(this, actions);
    signal?.addEventListener("abort", () => this.reject(signal.reason), { once: true });
  }

  /** @type {JobHandle["on"]} */
  on(type, listener) {
    const handler = (/** @type {Event} */ event) => listener(/** @type {CustomEvent} */ (event).detail);
    this.addEventListener(type, handler);
    return () => this.removeEventListener(type, handler);
  }

  /**
   * The server has accepted the job.
   * @param {string} id
   */
  accept(id) {
    this.id = id;
    this.acceptance.resolve(id);
  }

  /**
   * A version of the job has arrived. Older versions are ignored, and all after an abort.
   * @param {JobItem} item
   * @param {boolean} [isReset] whether the server has forgotten later versions, as when a backup is restored
   */
  update(item, isReset) {
    const previous = this.item;
    if (this.signal?.aborted || (previous && !isReset && item.version <= previous.version)) return;
    this.item = item;
    this.#emit("change", item);
    if (item.progress && JSON.stringify(item.progress) !== JSON.stringify(previous?.progress)) {
      this.#emit("progress", item.progress);
    }
    if (!item.done) return;
    this.outcome.resolve({ item });
    this.#emit("done", item);
  }

  /**
   * The response was the result, and there is no job.
   * @param {unknown} value
   */
  resolve(value) {
    this.acceptance.resolve(null);
    this.outcome.resolve({ value });
  }

  /**
   * The request failed, or the job cannot be followed any more.
   * @param {unknown} error
   */
  reject(error) {
    this.acceptance.reject(error);
    this.outcome.reject(error);
  }

  /** Return the first version of the job that is known, or null if the response was the result itself. */
  async getItem() {
    await this.acceptance.promise;
    if (!this.item)
      await Promise.race([new Promise((resolve) => this.on("change", resolve)), this.outcome.promise]);
    return this.item;
  }

  /**
   * @param {keyof JobEvents} type
   * @param {unknown} detail
   */
  #emit(type, detail) {
    this.dispatchEvent(new CustomEvent(type, { detail }));
  }
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
