// Keeps the figures of the overview up to date: requests them again each second with the ETag of the last answer, while
// the page is visible and they can change. The server answers 304 without reading anything until its doorbell has rung.

const INTERVAL_MS = 1000;
/** Milliseconds until the next request after one that failed. */
const RETRY_MS = 5000;

/**
 * @typedef {{fetch: typeof fetch, setTimeout: (callback: () => void, ms: number) => any, clearTimeout: (timer: any) => void}} Host
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
    // What does not change any more, such as the state of a job that has ended, is not requested again.
    if (this.element.querySelector("[data-overview-final]")) this.isFinal = true;
    // stop() during the request ends the loop.
    if (!this.isFinal && this.timer !== null) this.timer = this.host.setTimeout(() => this.reload(), pause);
  }

  async load() {
    const headers = this.etag ? { "If-None-Match": this.etag } : undefined;
    const url = this.element.dataset.overviewFigures ?? "";
    const response = await this.host.fetch(url, { headers, cache: "no-store", redirect: "error" });
    if (response.status === 304) return;
    if (!response.ok) throw new Error(`HTTP ${response.status}`);
    const text = await response.text();
    this.etag = response.headers.get("ETag") ?? "";
    this.show(text);
  }

  /**
   * Replace the figures, except while a control in them has the focus or text in them is selected.
   * @param {string} text
   */
  show(text) {
    const selection = getSelection();
    const isSelected = selection && !selection.isCollapsed && this.element.contains(selection.anchorNode);
    if (isSelected || this.element.contains(document.activeElement)) {
      this.etag = "";
      return;
    }
    const open = [...this.element.querySelectorAll("details[open]")].map((details) => details.id);
    const parsed = new DOMParser().parseFromString(text, "text/html");
    this.element.replaceChildren(...parsed.body.childNodes);
    for (const id of open) document.getElementById(id)?.setAttribute("open", "");
  }
}

const element = /** @type {HTMLElement|null} */ (document.querySelector("[data-overview-figures]"));
if (element) {
  const figures = new Figures(element, document.querySelector("[data-overview-problem]"), {
    fetch: fetch.bind(globalThis),
    setTimeout: (callback, ms) => setTimeout(callback, ms),
    clearTimeout: (timer) => clearTimeout(timer),
  });
  const follow = () => (document.visibilityState === "visible" ? figures.start() : figures.stop());
  document.addEventListener("visibilitychange", follow);
  follow();
}
