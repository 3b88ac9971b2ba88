// Sends HTTP requests: CSRF token, idempotency key, retries, and problem details as errors.

/**
 * @typedef {import("./client.js").JobItem} JobItem
 * @typedef {import("./client.js").ProblemDetails} ProblemDetails
 * @typedef {import("./connection.js").Clock} Clock
 */

const IDEMPOTENCY_HEADER = "Idempotency-Key";
/** Pauses before an unsafe request that got no response is sent again. */
const RESEND_DELAYS_MS = [1_000, 3_000];
/** Attempts to read something while the server or the network is away; the pauses double from 1 s. */
const MAX_READ_ATTEMPTS = 6;
const SAFE_METHODS = new Set(["GET", "HEAD", "OPTIONS"]);

/** What each error of the client is: `problem` is the body (RFC 9457), `job` the job, `retryAfter` is in seconds. */
export class Problem extends Error {
  name = "Problem";

  /**
   * @param {ProblemDetails} problem
   * @param {{status?: number, retryAfter?: number|null, job?: JobItem|null}} [context]
   */
  constructor(problem, { status = problem.status ?? 0, retryAfter = null, job = null } = {}) {
    super(firstFieldError(problem) || problem.detail || problem.title);
    this.problem = problem;
    this.status = status;
    this.retryAfter = retryAfter;
    this.job = job;
  }
}

/** The server has answered with a status of 400 or more. */
export class RequestRefused extends Problem {
  name = "RequestRefused";
}

/** The job has failed. */
export class JobFailed extends Problem {
  name = "JobFailed";
}

/** The job was cancelled. */
export class JobCancelled extends Problem {
  name = "JobCancelled";
}

export function createSignedOut() {
  const detail = "You are not signed in. Sign in and try again.";
  return new RequestRefused({ type: "about:blank", title: "Unauthorized", status: 401, detail });
}

/**
 * Return a fetch() that answers 401 in place of the page to sign in, to which a project may redirect the requests of
 * users who are signed out: the status of that page is that of success.
 * @param {typeof fetch} fetch
 * @param {string} signIn the address of that page, "" if it is not known
 * @returns {typeof fetch}
 */
export function refuseSignIn(fetch, signIn) {
  return async (input, init) => {
    const response = await fetch(input, init);
    const pathOf = (/** @type {string} */ url) => new URL(url, response.url).href.split("?")[0];
    if (!signIn || !response.redirected || pathOf(signIn) !== pathOf(response.url)) return response;
    const headers = { "Content-Type": "application/json" };
    return new Response(JSON.stringify(createSignedOut().problem), { status: 401, headers });
  };
}

/**
 * Return the error of the first invalid field: of a list as this app writes it, or of a dict as Django's forms do.
 * @param {ProblemDetails} problem
 */
function firstFieldError({ errors }) {
  const [first] = Object.values(errors ?? {}).flat();
  const text = first?.detail ?? first?.message ?? first;
  return typeof text === "string" ? text : "";
}

export class Requests {
  #options;

  /**
   * @param {object} options
   * @param {typeof fetch} options.fetch
   * @param {Clock} options.clock
   * @param {string} options.origin of the page: only requests to it carry the CSRF token
   * @param {{header: string, getToken: () => string}} options.csrf
   * @param {string} [options.viewer] the mark of the page's user
   * @param {() => void} [options.onSignedOut] called when the server says that the user is not signed in
   */
  constructor(options) {
    this.#options = options;
  }

  /**
   * Send a request once. It accepts JSON, and carries the CSRF token if it is unsafe and goes to the page's origin.
   * @param {string} url
   * @param {RequestInit} [init]
   */
  send(url, init = {}) {
    const headers = new Headers(init.headers);
    if (!headers.has("Accept")) headers.set("Accept", "application/json");
    if (this.#isUnsafeSameOrigin(url, init))
      headers.set(this.#options.csrf.header, this.#options.csrf.getToken());
    return this.#options.fetch(url, { ...init, headers });
  }

  /**
   * Send a form of a page of the app as the browser would, but without leaving the page, and for its user only.
   * @param {string} url
   * @param {FormData|URLSearchParams} body
   * @returns {Promise<{location: string}|null>} the page to which a browser would be led; rejects with RequestRefused or
   *   what fetch() throws unless the server has done what the form says
   */
  async sendForm(url, body) {
    const { origin, viewer } = this.#options;
    const address = new URL(url, origin);
    if (viewer) address.searchParams.set("viewer", viewer);
    body.delete("csrfmiddlewaretoken"); // The user may have signed in again since the page was loaded.
    const response = await this.send(address.href, { method: "POST", body });
    const answer = await this.parse(response);
    if (answer || response.status === 204) return answer;
    // A page is no answer to a script: it is one to sign in, or of a proxy or a network.
    throw response.redirected ? createSignedOut() : new TypeError("The response is another page.");
  }

  /**
   * Send a request, and resend an unsafe one to the page's origin where the network fails. Its idempotency key is the
   * same each time, so the server executes it once.
   * @param {string} url
   * @param {RequestInit} [init]
   */
  async sendIdempotently(url, init = {}) {
    if (!this.#isUnsafeSameOrigin(url, init)) return this.send(url, init);
    const headers = new Headers(init.headers);
    if (!headers.has(IDEMPOTENCY_HEADER)) headers.set(IDEMPOTENCY_HEADER, randomKey());
    for (const delay of RESEND_DELAYS_MS) {
      try {
        return await this.send(url, { ...init, headers });
      } catch (error) {
        // fetch() reports a failed network as TypeError. An aborted request is not sent again, nor is a stream, which
        // can be read only once.
        if (!(error instanceof TypeError) || init.body instanceof ReadableStream) throw error;
      }
      await this.#sleep(delay);
    }
    return this.send(url, { ...init, headers });
  }

  /**
   * Read JSON, and try again after a pause while the server or the network is away. The request is marked as one that no
   * person made, which does not prolong their session.
   * @param {string} url
   * @param {AbortSignal|null} [signal]
   * @param {number} [timeout] ms after which a request is sent again, in place of a signal
   * @returns {Promise<any>} rejects with RequestRefused, or with what fetch() throws
   */
  async read(url, signal, timeout) {
    const address = `${url}${url.includes("?") ? "&" : "?"}background=1`;
    for (let attempt = 1; ; attempt += 1) {
      try {
        const init = { signal: timeout ? AbortSignal.timeout(timeout) : signal };
        return await this.parse(await this.send(address, init));
      } catch (error) {
        const isLate = timeout && error instanceof DOMException;
        if (!(isLate || isTemporary(error)) || attempt === MAX_READ_ATTEMPTS) throw error;
        const seconds = (error instanceof Problem && error.retryAfter) || 2 ** (attempt - 1);
        await this.#sleep(seconds * 1000);
      }
    }
  }

  /**
   * Return the JSON of a response, or null if it has none.
   * @param {Response} response
   * @returns {Promise<any>} rejects with RequestRefused if the status is an error
   */
  async parse(response) {
    const isJson = /json/.test(response.headers.get("Content-Type") ?? "");
    const body = isJson ? await response.json() : null;
    if (response.ok) return body;
    if (response.status === 401) this.#options.onSignedOut?.();
    const title = response.statusText || `HTTP ${response.status}`;
    throw new RequestRefused(body?.title ? body : { type: "about:blank", title }, {
      status: response.status,
      retryAfter: Number(response.headers.get("Retry-After")) || null,
    });
  }

  /**
   * @param {string} url
   * @param {RequestInit} init
   */
  #isUnsafeSameOrigin(url, init) {
    if (SAFE_METHODS.has((init.method ?? "GET").toUpperCase())) return false;
    return new URL(url, this.#options.origin).origin === this.#options.origin;
  }

  /** @param {number} ms */
  #sleep(ms) {
    return new Promise((resolve) => this.#options.clock.setTimeout(() => resolve(undefined), ms));
  }
}

/** @param {unknown} error */
function isTemporary(error) {
  return error instanceof Problem ? error.status === 503 || error.status === 429 : error instanceof TypeError;
}

/** Return 32 hex digits. crypto.randomUUID() does not exist on pages without HTTPS. */
function randomKey() {
  const bytes = [...crypto.getRandomValues(new Uint8Array(16))];
  return bytes.map((byte) => byte.toString(16).padStart(2, "0")).join("");
}
