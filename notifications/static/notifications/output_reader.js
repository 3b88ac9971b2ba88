// Reads the output of one job as it is written, for <notifications-output> and job.on("output"). It is loaded when one of
// them is used first.

/**
 * @typedef {import("./client.js").Client} Client
 * @typedef {{text: string, mark: string}} OutputPart what the job has written, or a line of the app: one of them is ""
 * @typedef {(parts: OutputPart[], offset: string, text: string) => void} Take gets what follows: in parts, the offset of its
 *   end, and as the server sent it
 * @typedef {{streamNextOffset: string, streamClosed?: boolean}} Control
 */

/** After this long a connection is opened again that the server has refused, or cannot hold open. */
const RETRY_MS = 3_000;
/** The server sends the first event at once. If none arrives, something on the way holds the response back to its end. */
const FIRST_EVENT_TIMEOUT_MS = 5_000;
/** Between two long polls: a job may write ten times a second. */
const POLL_INTERVAL_MS = 1_000;
/** Whether events are held back, also for other readers of this page. */
let isHeldBack = false;
/** A line of the app, which no task can write, and one that has not arrived whole. */
// biome-ignore lint/suspicious/noControlCharactersInRegex: it marks these lines
const MARK = /\n\x1e([^\n]*)\n/;
// biome-ignore lint/suspicious/noControlCharactersInRegex: it marks these lines
const MARK_BEGINNING = /\n(?:\x1e[^\n]*)?$/;

/**
 * Read until the output is closed, and on when the job runs again. Nothing is read while the page is hidden.
 * @param {object} options
 * @param {string} options.id of the job
 * @param {string} options.url of the job, with a query
 * @param {string} [options.offset] up to which the text is known, from the beginning if there is none
 * @param {boolean} [options.isClosed] whether nothing follows it, until the job runs again
 * @param {Client} options.client
 * @param {Pick<import("./jobs.js").Jobs, "read"|"request">} options.jobs
 * @param {import("./connection.js").Clock} options.clock
 * @param {AbortSignal} options.signal ends it
 * @param {Take} options.take
 */
export function readOutput({ id, url, offset = "-1", isClosed = false, client, jobs, clock, signal, take }) {
  /** What has arrived without its offset, and, up to the offset `end`, what may be the beginning of a line of the app. */
  let received = "";
  let rest = "";
  let end = offset;
  let timer = /** @type {any} */ (null);
  let source = /** @type {EventSource|null} */ (null);
  let request = new AbortController();

  const getUrl = (/** @type {string} */ query) => {
    const address = new URL(url, location.href);
    address.pathname += "output/";
    return `${address.href}&offset=${end}${query}`;
  };

  /** Pass on text that ends at an offset. If it is the last, the state of the job is read. */
  function receive(/** @type {string} */ text, /** @type {string|null} */ next, isLast = false) {
    isClosed = isLast;
    end = next ?? end;
    const parts = (rest + text).split(MARK);
    const last = parts.pop() ?? "";
    rest = isLast ? "" : (last.match(MARK_BEGINNING)?.[0] ?? "");
    parts.push(last.slice(0, last.length - rest.length));
    // Another reader begins before what is kept back here.
    const start = Number(end) - new TextEncoder().encode(rest).length;
    const all = parts.map((part, index) => (index % 2 ? { text: "", mark: part } : { text: part, mark: "" }));
    take(
      all.filter((part) => part.text || part.mark),
      String(start).padStart(16, "0"),
      text,
    );
    if (!isLast) return;
    disconnect();
    void jobs.read(id);
  }

  function connect() {
    disconnect();
    if (signal.aborted || isClosed || document.visibilityState === "hidden") return;
    if (isHeldBack) return void read("&live=long-poll");
    source = new EventSource(getUrl("&live=sse"));
    expectEvent(FIRST_EVENT_TIMEOUT_MS);
    source.addEventListener("data", ({ data }) => (received += data));
    source.addEventListener("control", ({ data }) => {
      clock.clearTimeout(timer);
      const control = /** @type {Control} */ (JSON.parse(data));
      const text = received;
      received = "";
      receive(text, control.streamNextOffset, control.streamClosed);
    });
    source.addEventListener("error", () => {
      // It goes on by itself after the last control event, unless the server has refused it.
      received = "";
      if (source?.readyState === EventSource.CLOSED) void read();
      else expectEvent(RETRY_MS + FIRST_EVENT_TIMEOUT_MS);
    });
  }

  function expectEvent(/** @type {number} */ ms) {
    clock.clearTimeout(timer);
    timer = clock.setTimeout(() => {
      isHeldBack = true;
      connect();
    }, ms);
  }

  /** Read what there is, or wait for what follows, where events cannot be sent or do not arrive, and connect again. */
  async function read(query = "") {
    disconnect();
    const { signal } = request;
    let isRead = false;
    try {
      const response = await jobs.request(getUrl(query), { headers: { Accept: "text/plain" }, signal });
      if ([401, 404].includes(response.status)) return;
      const { headers } = response;
      const text = await response.text();
      signal.throwIfAborted();
      isRead = response.ok;
      if (isRead) receive(text, headers.get("Stream-Next-Offset"), headers.has("Stream-Closed"));
    } catch {
      if (signal.aborted) return;
      isHeldBack = false; // The server or the network is away, and so the events may have been.
    }
    if (!isClosed) timer = clock.setTimeout(connect, query && isRead ? POLL_INTERVAL_MS : RETRY_MS);
  }

  function disconnect() {
    clock.clearTimeout(timer);
    request.abort();
    request = new AbortController();
    source?.close();
    source = null;
    received = ""; // The next request begins before it.
  }

  /** The end of the job, or that it runs again. */
  const unsubscribe = client.on("change", ({ jobs }) => {
    const item = jobs.find((/** @type {{id: string}} */ each) => each.id === id);
    if (!item || !isClosed || item.done) return;
    isClosed = false;
    connect();
  });
  const handleVisibility = () => (document.visibilityState === "hidden" ? disconnect() : connect());
  document.addEventListener("visibilitychange", handleVisibility, { signal });
  signal.addEventListener("abort", () => {
    unsubscribe();
    disconnect();
  });
  connect();
}
