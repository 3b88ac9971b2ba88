// <notifications-output>: shows the output of one job as it is written, after the text that the server rendered. It only
// appends. It is loaded where a page has such an element, and later if one is inserted.

/**
 * @typedef {import("./notifications.js").Page} Page
 */

/** Who is so close to the end follows it. */
const END_PX = 16;
/** @type {Record<string, string|undefined>} the texts, if the element has no others in its attributes */
const TEXTS = { attempt: "Attempt {number}", continued: "Continued", cut: "Cut", cancelled: "Stopped" };
const PLACEHOLDER_ID = "00000000-0000-0000-0000-000000000000";

/**
 * @param {HTMLElement} element
 * @param {Page} page
 * @param {AbortSignal} signal aborted when the element is removed
 * @param {{output_reader: typeof import("./output_reader.js"), output_search: typeof import("./output_search.js")}} modules
 */
export function connectElement(element, page, signal, modules) {
  const id = element.getAttribute("job");
  const address = /** @type {HTMLElement|null} */ (document.querySelector("script[data-notifications]"))
    ?.dataset.job;
  if (!id || !address)
    throw new Error("<notifications-output> needs the attribute job, and a signed-in user.");
  element.classList.add("notifications-page");
  const box = findPart(element, "text", "pre");
  const status = findPart(element, "status", "p");
  const texts = { ...TEXTS, ...element.dataset };
  /** Whether the job is: what is read of its output then is not news. */
  let isDone = false;
  const scrollKey = `notifications-output:${id}`;

  function isAtEnd() {
    return box.scrollHeight - box.scrollTop - box.clientHeight < END_PX;
  }

  /** @type {import("./output_reader.js").Take} */
  function take(parts, offset, text) {
    const wasAtEnd = isAtEnd();
    for (const part of parts)
      if (part.mark) appendMark(part.mark);
      else box.append(part.text);
    element.dataset.offset = offset;
    if (box.hasChildNodes()) element.hidden = false;
    if (wasAtEnd) box.scrollTop = box.scrollHeight;
    element.dispatchEvent(new CustomEvent("notifications:output", { bubbles: true, detail: { text } }));
  }

  function appendMark(/** @type {string} */ mark) {
    const [name, number] = mark.split(" ");
    const text = (texts[name] ?? mark).replace("{number}", number ?? "");
    box.append("\n", page.dom.createElement("span", "notifications-note", text), "\n");
    if (!isDone) status.textContent = text;
  }

  /** That the job was cancelled, or runs again. The other texts are of a running job. */
  const unsubscribe = page.client.on("change", ({ jobs }) => {
    const item = jobs.find((/** @type {{id: string}} */ each) => each.id === id);
    isDone = item?.done ?? isDone;
    if (item && (item.done || status.textContent === texts.cancelled))
      status.textContent = (item.state === "cancelled" && texts.cancelled) || "";
  });

  /** A page that is loaded again is where its reader was, and follows the end if they were there. */
  function saveScroll() {
    if (isAtEnd()) return;
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
    else box.scrollTop = box.scrollHeight;
  }

  const form = /** @type {HTMLFormElement|null} */ (element.querySelector("[role=search]"));
  if (form) modules.output_search.connectSearch(form, element, box, signal);
  addEventListener("pagehide", saveScroll, { signal });
  signal.addEventListener("abort", unsubscribe);
  restoreScroll();
  const steady = /** @type {HTMLElement|null} */ (document.querySelector("[data-steady]"));
  if (steady && element.hasAttribute("data-closed")) releaseUnseen(steady, signal);
  const { client, jobs, clock } = page;
  const url = address.replace(PLACEHOLDER_ID, id);
  const { offset } = element.dataset;
  const isClosed = element.hasAttribute("data-closed");
  modules.output_reader.readOutput({ id, url, offset, isClosed, client, jobs, clock, signal, take });
}

/**
 * Give up the room that the page of a job has kept at its end, as soon as that moves nothing that can be seen.
 * @param {HTMLElement} steady what has the attribute of it
 * @param {AbortSignal} signal aborted when the element is removed
 */
function releaseUnseen(steady, signal) {
  const parts = [...document.querySelectorAll(".notifications-columns > * > *, .notifications-pages")];
  const seen = () =>
    parts.map((part) => part.getBoundingClientRect().top).map((top) => top > 0 && top < innerHeight && top);
  function release() {
    const before = `${seen()}`;
    delete steady.dataset.steady;
    // Of what is above the window the browser makes up for the room.
    if (document.visibilityState === "visible" && `${seen()}` !== before) steady.dataset.steady = "";
  }

  for (const type of ["visibilitychange", "scrollend"]) document.addEventListener(type, release, { signal });
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
