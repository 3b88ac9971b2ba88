/**
 * Keeps a part of the page up to date: re-reads [data-live-url] with its ETag when a job of the page changes, at most once
 * a second, and changes only the nodes that differ, so that focus and scroll position stay.
 */

const MIN_INTERVAL_MS = 1_000;
const RETRY_INTERVAL_MS = 5_000;
const KEPT_JOB = "[data-keep]:is([data-state=queued], [data-state=running])";

const root = document.querySelector("[data-live-url]");
let etag = "";
let lastRead = 0;
let timer = null;
let isReading = false;

/** Read the content, now or when the interval since the last read has passed. */
function refresh(delay = 0) {
  if (timer !== null || document.visibilityState === "hidden") return;
  const wait = Math.max(delay, lastRead + MIN_INTERVAL_MS - Date.now(), 0);
  timer = setTimeout(async () => {
    timer = null;
    if (isReading) return refresh();
    isReading = true;
    lastRead = Date.now();
    const isRead = await read();
    isReading = false;
    if (!isRead) refresh(RETRY_INTERVAL_MS);
  }, wait);
}

/** @returns {Promise<boolean>} false if it must be tried again */
async function read() {
  try {
    const address = new URL(root.dataset.liveUrl + location.search, location.href);
    if ("watched" in root.dataset) address.searchParams.set("watched", "1"); // Its rows stay in their order.
    const url = address.href;
    const response = await request(url);
    if (response.status === 304) return true;
    // The report was deleted, which the page itself shows.
    if (response.status === 404) return location.reload();
    // A redirect leads to the sign-in, for which the bell asks. After it the stream says what has changed.
    if (response.status && response.responseURL !== url) return true;
    if (response.status !== 200) return false;
    etag = response.getResponseHeader("ETag") ?? "";
    morphChildren(root, response.responseXML.body);
    root.dispatchEvent(new CustomEvent("live:updated", { bubbles: true }));
    return true;
  } catch {
    return false;
  }
}

/**
 * Request a page, which the browser parses: the Content-Security-Policy lets no script parse a text.
 * @returns {Promise<XMLHttpRequest>} when it has ended, with status 0 if it has failed
 */
function request(url) {
  return new Promise((resolve) => {
    const sent = new XMLHttpRequest();
    sent.open("GET", url);
    sent.responseType = "document";
    if (etag) sent.setRequestHeader("If-None-Match", etag);
    sent.onloadend = () => resolve(sent);
    sent.send();
  });
}

/** Make the children of a node equal to those of another, and keep the nodes that are the same. */
function morphChildren(parent, wanted) {
  let current = parent.firstChild;
  for (const node of [...wanted.childNodes]) {
    let match = current;
    // Elements are searched further on; a text, which may be mere space, would take away what stands before it.
    if (node.nodeType !== Node.ELEMENT_NODE) match = current?.nodeType === node.nodeType ? current : null;
    else while (match && !isSame(match, node)) match = match.nextSibling;
    if (!match) {
      parent.insertBefore(node, current);
      continue;
    }
    while (current !== match) current = removeAndNext(current);
    current = match.nextSibling;
    morph(match, node);
  }
  while (current) current = removeAndNext(current);
}

/**
 * Remove a node and return the next one. The element of a job stays until it has got the end of the job, which may come
 * after the content that shows it: the element marks the notification about it as read.
 */
function removeAndNext(node) {
  const next = node.nextSibling;
  const isKept = node.nodeType === Node.ELEMENT_NODE && node.matches(KEPT_JOB);
  if (!isKept) node.remove();
  return next;
}

function isSame(node, wanted) {
  const attributes = ["id", "class", "data-key"];
  return (
    node.nodeName === wanted.nodeName &&
    attributes.every((name) => node.getAttribute(name) === wanted.getAttribute(name))
  );
}

function morph(node, wanted) {
  if (node.nodeType !== Node.ELEMENT_NODE) {
    if (node.nodeValue !== wanted.nodeValue) node.nodeValue = wanted.nodeValue;
    return;
  }
  if (node.hasAttribute("data-keep")) return;
  for (const { name } of [...node.attributes])
    if (name !== "open" && !wanted.hasAttribute(name)) node.removeAttribute(name);
  for (const { name, value } of wanted.attributes)
    if (node.getAttribute(name) !== value) node.setAttribute(name, value);
  morphChildren(node, wanted);
}

if (root) {
  try {
    sessionStorage.removeItem("report-draft"); // It has arrived (paste.js).
  } catch {
    // Storage is blocked.
  }
  document.addEventListener("notifications:job-progress", () => refresh());
  document.addEventListener("notifications:job-done", ({ target }) => {
    if (!root.querySelector("[data-active]")) target.remove();
  });
  document.addEventListener("visibilitychange", () => root.querySelector("[data-active]") && refresh());
  // A job about this page of which it has no element: it asks on all devices whether the report is to be public.
  document.addEventListener("DOMContentLoaded", async () => {
    const { stream } = (await globalThis.notifications?.ready) ?? {};
    stream?.on("job", ({ url }) => url === location.pathname && refresh());
  });
}
