// Keeps the figures of the overview, or the page of a job, up to date: requests them again each second with the ETag of
// the last answer, while the page is visible and they can change. The server answers 304 until they have.

const INTERVAL_MS = 1000;
/** Milliseconds until the next request after one that failed. */
const RETRY_MS = 5000;

/**
 * @typedef {{setTimeout: (callback: () => void, ms: number) => any, clearTimeout: (timer: any) => void}} Host
 */

export class Figures {
  /**
   * @param {HTMLElement} element what the figures are in; `data-overview-figures` is their address
   * @param {HTMLElement|null} problem shown while they cannot be reloaded
   * @param {Host} host
   */
  constructor(element, problem, host) {
    this.element = element;
    this.problem = problem;
    this.host = host;
    this.etag = "";
    /** The last answer, until all of it is shown. */
    this.answer = /** @type {Document|null} */ (null);
    /** @type {any} */
    this.timer = null;
    this.isLoading = false;
    this.isFinal = false;
  }

  start() {
    this.stop();
    if (this.isFinal) return;
    this.timer = this.host.setTimeout(() => this.reload(), INTERVAL_MS);
  }

  stop() {
    this.host.clearTimeout(this.timer);
    this.timer = null;
  }

  async reload() {
    if (this.isLoading) return;
    this.isLoading = true;
    let pause = INTERVAL_MS;
    try {
      await this.load();
    } catch {
      pause = RETRY_MS;
    }
    this.isLoading = false;
    if (this.problem) this.problem.hidden = pause === INTERVAL_MS;
    // stop() during the request ends the loop.
    if (!this.isFinal && this.timer !== null) this.timer = this.host.setTimeout(() => this.reload(), pause);
  }

  async load() {
    const url = new URL(this.element.dataset.overviewFigures ?? "", location.href).href;
    const response = await request(url, this.etag);
    if (response.status !== 304) {
      // A redirect leads to the page to sign in.
      if (response.status !== 200 || !response.responseXML || response.responseURL !== url)
        throw new Error(`HTTP ${response.status}`);
      this.answer = response.responseXML;
      this.etag = response.getResponseHeader("ETag") ?? "";
    }
    if (this.answer && this.show(this.answer)) this.answer = null;
  }

  /**
   * Show an answer: the content, or a page whose parts have the content of those here. Return whether all of it is shown.
   * @param {Document} parsed
   */
  show(parsed) {
    // What does not change any more, such as a job that has ended, is not requested again.
    const isLast = parsed.querySelector("[data-overview-final]") !== null;
    const found = [...parsed.querySelectorAll("[data-overview-part]")];
    const isShown = found.length
      ? found.map((content) => replace(document.getElementById(content.id), content)).every(Boolean)
      : replace(this.element, parsed.body);
    this.isFinal = isShown && isLast;
    return isShown;
  }
}

/**
 * Request a page, which the browser parses: a policy with require-trusted-types-for lets no script parse a text.
 * @param {string} url
 * @param {string} etag "" without one
 * @returns {Promise<XMLHttpRequest>} when it has ended, with status 0 if it has failed
 */
function request(url, etag) {
  return new Promise((resolve) => {
    const sent = new XMLHttpRequest();
    sent.open("GET", url);
    sent.responseType = "document";
    if (etag) sent.setRequestHeader("If-None-Match", etag);
    sent.onloadend = () => resolve(sent);
    sent.send();
  });
}

/**
 * Give a part new content, unless a control in it has the focus or text in it is selected. Return whether it has it now.
 * @param {Element|null} part
 * @param {Element} content
 */
function replace(part, content) {
  if (!part || part.innerHTML === content.innerHTML) return true;
  // Fields one by one: some themes put them into tabs, of which another may be open.
  const [fields, values] = [part, content].map((parent) => [...parent.querySelectorAll(".readonly")]);
  if (values.length && fields.length === values.length)
    return fields.map((field, at) => replace(field, values[at])).every(Boolean);
  const selection = getSelection();
  const isSelected = selection && !selection.isCollapsed && part.contains(selection.anchorNode);
  if (isSelected || part.contains(document.activeElement) || part.querySelector(".mark")) return false;
  const isOpen = new Map([...part.querySelectorAll("details")].map((details) => [details.id, details.open]));
  const scrolled = [...part.querySelectorAll("[tabindex]")].map((region) => region.scrollTop);
  part.replaceChildren(...content.childNodes);
  for (const details of part.querySelectorAll("details"))
    details.open = isOpen.get(details.id) ?? details.open;
  for (const [at, region] of part.querySelectorAll("[tabindex]").entries())
    region.scrollTop = scrolled[at] ?? 0;
  return true;
}

/** A mark on a chart that is less wide is a press, or a finger that scrolls. */
const MIN_MARK_PX = 8;
const MINUTE_MS = 60_000;

/**
 * Show the figures of the time that is marked on a chart.
 * @param {HTMLElement} figures
 */
function watchMarks(figures) {
  let start = 0;
  let mark = /** @type {SVGRectElement|null} */ (null);
  figures.addEventListener("pointerdown", (event) => {
    const lines = /** @type {Element} */ (event.target).closest(".lines");
    if (!lines || event.button) return;
    start = event.clientX;
    mark = document.createElementNS("http://www.w3.org/2000/svg", "rect");
    mark.setAttribute("class", "mark");
    mark.setAttribute("height", "100%");
    lines.append(mark);
    lines.setPointerCapture(event.pointerId);
    event.preventDefault(); // No text is selected.
  });
  figures.addEventListener("pointermove", (event) => {
    if (!mark) return;
    const [from, to] = findEnds(mark, event);
    mark.setAttribute("x", `${100 * from}%`);
    mark.setAttribute("width", `${100 * (to - from)}%`);
  });
  figures.addEventListener("pointerup", (event) => {
    if (!mark) return;
    const charts = /** @type {HTMLElement|null} */ (mark.closest("[data-since]"));
    const [since, until] = [charts?.dataset.since, charts?.dataset.until].map((text) =>
      Date.parse(text ?? ""),
    );
    // Whole minutes, as the figures are.
    const [from, to] = findEnds(mark, event).map((end, at) => {
      const minutes = (since + end * (until - since)) / MINUTE_MS;
      return new Date((at ? Math.ceil(minutes) : Math.floor(minutes)) * MINUTE_MS).toISOString();
    });
    stop();
    if (Math.abs(event.clientX - start) < MIN_MARK_PX) return;
    const url = new URL(location.href);
    for (const name of ["from", "until"]) url.searchParams.delete(name);
    url.searchParams.set("period", `${from}/${to}`);
    location.assign(url);
  });
  figures.addEventListener("pointercancel", stop);
  document.addEventListener("keydown", (event) => event.key === "Escape" && stop());

  function stop() {
    mark?.remove();
    mark = null;
  }

  /**
   * Return where the mark begins and ends, as shares of the width of its chart.
   * @param {Element} mark
   * @param {PointerEvent} event
   */
  function findEnds(mark, event) {
    const box = /** @type {Element} */ (mark.parentElement).getBoundingClientRect();
    return [start, event.clientX]
      .map((x) => Math.min(Math.max((x - box.left) / box.width, 0), 1))
      .sort((a, b) => a - b);
  }
}

const element = /** @type {HTMLElement|null} */ (document.querySelector("[data-overview-figures]"));
if (element) {
  const figures = new Figures(element, document.querySelector("[data-overview-problem]"), {
    setTimeout: (callback, ms) => setTimeout(callback, ms),
    clearTimeout: (timer) => clearTimeout(timer),
  });
  const follow = () => (document.visibilityState === "visible" ? figures.start() : figures.stop());
  document.addEventListener("visibilitychange", follow);
  follow();
  watchMarks(element);
}
