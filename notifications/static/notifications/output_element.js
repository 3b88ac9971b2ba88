// <notifications-output>: shows the output of one job as it is written, after the text that the server rendered. It only
// appends. It is loaded where a page has such an element, and later if one is inserted.

/**
 * @typedef {import("./notifications.js").Page} Page
 * @typedef {{streamNextOffset: string, streamClosed?: boolean}} Control
 */

/** After this long a connection is opened again that the server has refused, or cannot hold open. */
const RETRY_MS = 3_000;
/** Who is so close to the end follows it. */
const END_PX = 16;
/** @type {Record<string, string|undefined>} the texts, if the element has no others in its attributes */
const TEXTS = { attempt: "Attempt {number}", continued: "Continued", cut: "Cut", cancelled: "Stopped" };
const PLACEHOLDER_ID = "00000000-0000-0000-0000-000000000000";
/** A line of the app, which no task can write, and one that has not arrived whole. */
// biome-ignore lint/suspicious/noControlCharactersInRegex: it marks these lines
const MARK = /\n\x1e([^\n]*)\n/;
// biome-ignore lint/suspicious/noControlCharactersInRegex: it marks these lines
const MARK_BEGINNING = /\n(?:\x1e[^\n]*)?$/;

/**
 * @param {HTMLElement} element
 * @param {Page} page
 * @param {AbortSignal} signal aborted when the element is removed
 */
export function connectElement(element, page, signal) {
  const id = element.getAttribute("job");
  const address = /** @type {HTMLElement|null} */ (document.querySelector("script[data-notifications]"))
    ?.dataset.job;
  if (!id || !address)
    throw new Error("<notifications-output> needs the attribute job, and a signed-in user.");
  element.classList.add("notifications-page");
  const box = findPart(element, "text", "pre");
  const status = findPart(element, "status", "p");
  const texts = { ...TEXTS, ...element.dataset };
  const scrollKey = `notifications-output:${id}`;
  /** What has arrived without its offset, and what may be the beginning of a line of the app. */
  let received = "";
  let rest = "";
  let isClosed = false;
  let timer = /** @type {any} */ (null);
  let source = /** @type {EventSource|null} */ (null);

  const getUrl = (/** @type {string} */ query) => {
    const url = new URL(address.replace(PLACEHOLDER_ID, id), location.href);
    url.pathname += "output/";
    return `${url.href}${url.search ? "&" : "?"}offset=${element.dataset.offset ?? "-1"}${query}`;
  };

  /** Show text that ends at an offset. */
  function take(/** @type {string} */ text, /** @type {string|null} */ offset) {
    const isAtEnd = box.scrollHeight - box.scrollTop - box.clientHeight < END_PX;
    const parts = (rest + text).split(MARK);
    const last = parts.pop() ?? "";
    rest = isClosed ? "" : (last.match(MARK_BEGINNING)?.[0] ?? "");
    parts.push(last.slice(0, last.length - rest.length));
    for (const [index, part] of parts.entries())
      if (index % 2) appendMark(part);
      else if (part) box.append(part);
    // The next request begins before what is kept back.
    element.dataset.offset = String(Number(offset) - new TextEncoder().encode(rest).length).padStart(16, "0");
    if (box.hasChildNodes()) element.hidden = false;
    if (isAtEnd) box.scrollTop = box.scrollHeight;
    element.dispatchEvent(new CustomEvent("notifications:output", { bubbles: true, detail: { text } }));
  }

  function appendMark(/** @type {string} */ mark) {
    const [name, number] = mark.split(" ");
    const text = (texts[name] ?? mark).replace("{number}", number ?? "");
    box.append("\n", page.dom.createElement("span", "notifications-note", text), "\n");
    status.textContent = text;
  }

  /** Take text as `take()` does. If it is the last, the state of the job is read. */
  function takeAndClose(/** @type {string} */ text, /** @type {string|null} */ offset, isLast = false) {
    isClosed = isLast;
    take(text, offset);
    if (!isLast) return;
    disconnect();
    void page.jobs.read(id ?? "");
  }

  function connect() {
    disconnect();
    if (signal.aborted || isClosed || document.visibilityState === "hidden") return;
    source = new EventSource(getUrl("&live=sse"));
    source.addEventListener("data", ({ data }) => (received += data));
    source.addEventListener("control", ({ data }) => {
      const control = /** @type {Control} */ (JSON.parse(data));
      const text = received;
      received = "";
      takeAndClose(text, control.streamNextOffset, control.streamClosed);
    });
    source.addEventListener("error", () => {
      // It goes on by itself after the last control event, unless the server has refused it.
      received = "";
      if (source?.readyState === EventSource.CLOSED) void read();
    });
  }

  /** Read what there is, from a server that cannot hold a response open, and connect again later. */
  async function read() {
    disconnect();
    try {
      const response = await fetch(getUrl(""));
      if ([401, 404].includes(response.status)) return;
      const { headers } = response;
      if (response.ok)
        takeAndClose(await response.text(), headers.get("Stream-Next-Offset"), headers.has("Stream-Closed"));
    } catch {
      // The server or the network is away.
    }
    if (!isClosed) timer = page.clock.setTimeout(connect, RETRY_MS);
  }

  function disconnect() {
    page.clock.clearTimeout(timer);
    source?.close();
    source = null;
    received = rest = ""; // The next request begins before them.
  }

  /** The end of the job, or that it runs again. */
  const unsubscribe = page.client.on("change", ({ jobs }) => {
    const item = jobs.find((/** @type {{id: string}} */ each) => each.id === id);
    if (!item) return;
    if (item.state === "cancelled") status.textContent = texts.cancelled ?? "";
    if (!isClosed || item.done) return;
    isClosed = false;
    status.textContent = "";
    connect();
  });

  /** A page that is loaded again at the end of the job is where its reader was. */
  function saveScroll() {
    try {
      sessionStorage.setItem(scrollKey, String(box.scrollTop));
    } catch {
      // Storage is blocked: the page begins at the end of the text.
    }
  }

  function restoreScroll() {
    let saved = null;
    try {
      saved = sessionStorage.getItem(scrollKey);
      sessionStorage.removeItem(scrollKey);
    } catch {
      // Storage is blocked.
    }
    if (saved !== null) box.scrollTop = Number(saved);
    else if (!element.hasAttribute("data-closed")) box.scrollTop = box.scrollHeight;
  }

  const handleVisibility = () => (document.visibilityState === "hidden" ? disconnect() : connect());
  document.addEventListener("visibilitychange", handleVisibility, { signal });
  addEventListener("pagehide", saveScroll, { signal });
  signal.addEventListener("abort", () => {
    unsubscribe();
    disconnect();
  });
  restoreScroll();
  isClosed = element.hasAttribute("data-closed");
  connect();
}

/**
 * Return a part of the element, which is made if the server has rendered none.
 * @param {HTMLElement} element
 * @param {string} name
 * @param {"pre"|"p"} tag
 * @returns {HTMLElement}
 */
function findPart(element, name, tag) {
  const found = /** @type {HTMLElement|null} */ (element.querySelector(`[data-output-part=${name}]`));
  if (found) return found;
  const part = element.appendChild(document.createElement(tag));
  part.dataset.outputPart = name;
  if (tag === "pre") part.tabIndex = 0;
  else part.role = "status";
  part.className = tag === "pre" ? "notifications-result" : "notifications-note";
  return part;
}
