// <notifications-job>: shows the state, progress and outcome of one job, live, in the nodes that the server rendered.
// All elements of a page share one listener, so that a list of 200 rows costs no more than one row. It is loaded where a page
// has such an element, and later if one is inserted.

/**
 * @typedef {import("./client.js").JobItem} JobItem
 * @typedef {import("./notifications.js").Page} Page
 */

/** Texts that change while the job does not are rendered again after this long. */
const TIMES_INTERVAL_MS = 1_000;
/** After a change of the job its timeline is read again, once in this time. */
const TIMELINE_INTERVAL_MS = 1_000;

/**
 * @typedef {{connect: (element: HTMLElement) => void, disconnect: (element: HTMLElement) => void}} Elements
 * @type {WeakMap<Page, Elements>}
 */
const elementsOfPages = new WeakMap();

/**
 * @param {HTMLElement} element
 * @param {Page} page
 * @param {AbortSignal} signal aborted when the element is removed
 * @param {{job_texts: typeof import("./job_texts.js")}} modules
 */
export function connectElement(element, page, signal, { job_texts }) {
  const elements = elementsOfPages.get(page) ?? followJobs(page, job_texts);
  elementsOfPages.set(page, elements);
  elements.connect(element);
  signal.addEventListener("abort", () => elements.disconnect(element));
}

/**
 * @param {Page} page
 * @param {typeof import("./job_texts.js")} texts
 * @returns {Elements}
 */
function followJobs(page, { describeJob }) {
  const { client, jobs, localization, dom, clock, shownIds, doneStates } = page;
  /** @type {Map<string, Set<Job>>} the elements of the page, by the id of their job */
  const elements = new Map();
  /** @type {WeakMap<HTMLElement, Job>} those of elements that were removed, too: they may be inserted again */
  const known = new WeakMap();
  /**
   * Ids of the jobs whose end an element with `marks-read` has shown. It may be gone when the notification comes.
   * @type {Set<string>}
   */
  const shownJobs = new Set();
  /** Jobs are read one after the other: a page of 200 rows must not send 200 requests at once. */
  let reading = Promise.resolve();

  /** @param {Job} job */
  function read(job) {
    reading = reading.then(async () => {
      const { element, id } = job;
      if (elements.get(id)?.has(job) && !doneStates.includes(element.dataset.state ?? ""))
        await jobs.read(id, element.getAttribute("href") ?? undefined);
    });
  }

  class Job {
    #item = /** @type {JobItem|null} */ (null);
    /** The last quarter that was announced to screen readers; -1: none. */
    #announcedQuarter = -1;
    #reloadTimer = 0;
    #timelineTimer = /** @type {any} */ (null);
    #timelineReadAt = 0;
    #timelineTag = "";
    #isReading = false;

    id = "";

    /** @param {HTMLElement} element */
    constructor(element) {
      this.element = element;
    }

    connect() {
      const { element } = this;
      this.id = element.getAttribute("job") ?? "";
      if (!this.id) throw new Error("<notifications-job> needs the attribute job.");
      if (!element.hasChildNodes() && !element.hasAttribute("row")) this.#createParts();
      this.#item = null;
      // The server names when it may know more about a job that is still queued.
      const seconds = Number(element.getAttribute("reload-after"));
      if (seconds)
        this.#reloadTimer = window.setTimeout(() => {
          if (element.dataset.state === "queued") location.reload();
        }, seconds * 1000);
      elements.set(this.id, (elements.get(this.id) ?? new Set()).add(this));
      this.showOutage(page.isOut());
      const item = client.stream.jobs.get(this.id);
      if (item) this.update(item);
      // Otherwise the catch-up brings the job, or shows that it is not active.
      else if (client.stream.hasCaughtUp) read(this);
    }

    disconnect() {
      clearTimeout(this.#reloadTimer);
      clock.clearTimeout(this.#timelineTimer);
      elements.get(this.id)?.delete(this);
      if (!elements.get(this.id)?.size) elements.delete(this.id);
    }

    #createParts() {
      const bar = this.element.appendChild(document.createElement("progress"));
      bar.dataset.jobPart = "bar";
      this.element.appendChild(document.createElement("span")).dataset.jobPart = "text";
    }

    /**
     * Return the nodes of one part: in the element, or in its row.
     * @param {string} name
     * @returns {NodeListOf<HTMLElement>}
     */
    #parts(name) {
      const root =
        (this.element.hasAttribute("row") && this.element.closest("tr, li, [data-job-row]")) || this.element;
      return root.querySelectorAll(`[data-job-part="${name}"]`);
    }

    /** @type {import("./job_handle.js").FollowedJob["update"]} */
    update(item, isReset) {
      if (this.#item && !isReset && item.version <= this.#item.version) return;
      // A part of a page that is read again when its job is done has it as done: that must not have it read again.
      const wasRenderedDone = !this.#item && doneStates.includes(this.element.dataset.state ?? "");
      // Not what the server has rendered already.
      const isNews = this.#item || item.version > Number(this.element.dataset.version ?? 0);
      this.#item = item;
      if (isNews && this.element.hasAttribute("reload")) this.#readTimelineLater();
      const texts = describeJob(item, localization);
      this.element.dataset.state = item.state;
      if (!item.done) shownJobs.delete(item.id);
      else if (this.element.hasAttribute("marks-read")) shownJobs.add(item.id);
      if (!item.done || !this.element.hasAttribute("keeps-texts"))
        for (const [name, text] of Object.entries(texts)) this.#showText(name, text, item);
      this.#hide("active", item.done);
      this.#hide("done", !item.done);
      this.#hide("queued", item.state !== "queued");
      for (const bar of this.#parts("bar")) this.#updateBar(/** @type {HTMLProgressElement} */ (bar), item);
      this.#announce(item, texts.text);
      this.#dispatch("notifications:job-progress", item);
      if (!item.done || wasRenderedDone) return;
      this.#dispatch("notifications:job-done", item);
      if (
        this.element.hasAttribute("reload") &&
        isFirstReload(`${page.name}:reloaded:${item.id}:${item.version}`)
      ) {
        // So the page keeps the places of what is read: see output_element.js for how long.
        if (document.querySelector("[data-steady]"))
          history.replaceState(history.state, "", `?watched=1${location.hash}`);
        location.reload();
      }
    }

    /** Put the timeline in its place that the page would have now. The browser parses it, as trusted types want it. */
    #readTimeline() {
      this.#timelineTimer = null;
      this.#timelineReadAt = clock.now();
      const version = this.#item?.version ?? 0;
      if (!document.querySelector("[data-job-timeline]") || this.#item?.done) return;
      if (document.hidden) return this.#readTimelineLater();
      const request = new XMLHttpRequest();
      request.open("GET", `${location.pathname}?part=timeline&background=1`);
      if (this.#timelineTag) request.setRequestHeader("If-None-Match", this.#timelineTag);
      request.responseType = "document";
      request.onload = () => {
        const find = (/** @type {Document | null} */ root) => root?.querySelector("[data-job-timeline]");
        const [shown, found] = [find(document), find(request.responseXML)];
        if (!shown || !found) return;
        update(shown, found);
        this.#timelineTag = request.getResponseHeader("ETag") ?? "";
      };
      // One at a time, or an earlier answer could replace a later one.
      request.onloadend = () => {
        this.#isReading = false;
        if ((this.#item?.version ?? 0) > version) this.#readTimelineLater();
      };
      this.#isReading = true;
      request.send();
    }

    #readTimelineLater() {
      if (this.#isReading) return;
      const delay = Math.max(this.#timelineReadAt + TIMELINE_INTERVAL_MS - clock.now(), 0);
      this.#timelineTimer ??= clock.setTimeout(() => this.#readTimeline(), delay);
    }

    /** @param {boolean} isOut whether the server cannot be reached */
    showOutage(isOut) {
      this.#hide("offline", !isOut);
      this.#hide("online", isOut);
    }

    /** Show how long the job has been running, and how long it will still take. */
    updateTimes() {
      const item = this.#item;
      if (item?.state !== "running") return;
      const { elapsed, pace } = describeJob(item, localization);
      this.#showText("elapsed", elapsed, item);
      this.#showText("pace", pace, item);
    }

    /**
     * @param {string} name of parts
     * @param {string} text
     * @param {JobItem} item
     */
    #showText(name, text, { state }) {
      for (const part of this.#parts(name)) {
        if (part.textContent !== text) part.textContent = text;
        part.dataset.state = state;
      }
    }

    /**
     * @param {string} name of parts
     * @param {boolean} isHidden
     */
    #hide(name, isHidden) {
      for (const part of this.#parts(name)) part.hidden = isHidden;
    }

    /**
     * @param {HTMLProgressElement} bar
     * @param {JobItem} item
     */
    #updateBar(bar, item) {
      const { current = 0, total = null } = item.progress ?? {};
      if (item.state === "succeeded") bar.value = bar.max;
      else if (total === null || item.state === "queued") bar.removeAttribute("value");
      else {
        bar.max = Math.max(total, 1);
        bar.value = Math.min(current, total);
      }
      bar.hidden = item.done && item.state !== "succeeded";
      if (!bar.labels.length) bar.ariaLabel ??= localization.text("progress");
    }

    /**
     * Announce the start, the quarters and the end of a job with a bar to screen readers.
     * @param {JobItem} item
     * @param {string} text
     */
    #announce(item, text) {
      if (!this.#parts("bar").length) return;
      let status = this.element.querySelector("[role=status]:not([data-job-part])");
      if (!status) {
        status = this.element.appendChild(dom.createElement("span", "notifications-hidden"));
        status.role = "status";
      }
      const { current = 0, total = null } = item.progress ?? {};
      const quarter = item.done ? 4 : total ? Math.min(3, Math.floor((4 * current) / total)) : 0;
      if (item.state === "queued") this.#announcedQuarter = -1;
      if (item.state === "queued" || quarter <= this.#announcedQuarter) return;
      this.#announcedQuarter = quarter;
      status.textContent = text;
    }

    /**
     * @param {string} type
     * @param {JobItem} detail
     */
    #dispatch(type, detail) {
      this.element.dispatchEvent(new CustomEvent(type, { bubbles: true, detail }));
    }
  }

  /** Mark the notifications of jobs as read whose end the page shows, each once. They become no toasts here. */
  function markShown() {
    const shown = [...client.stream.notifications.values()].filter(
      (item) =>
        dom.isUnread(item) &&
        !shownIds.has(item.id) &&
        client.stream.jobs.get(item.job ?? "")?.done &&
        (shownJobs.has(item.job ?? "") ||
          [...(elements.get(item.job ?? "") ?? [])].some(({ element }) =>
            element.hasAttribute("marks-read"),
          )),
    );
    if (!shown.length) return;
    for (const { id } of shown) shownIds.add(id);
    const mark = () => page.mark("read", shown).catch(() => undefined);
    if (document.visibilityState === "visible") mark();
    else document.addEventListener("visibilitychange", mark, { once: true });
  }

  function updateTimes() {
    clock.setTimeout(updateTimes, TIMES_INTERVAL_MS);
    forEachElement((job) => job.updateTimes());
  }

  /** @param {(job: Job) => void} callback */
  function forEachElement(callback) {
    for (const each of elements.values()) each.forEach(callback);
  }

  client.on("change", ({ jobs: items, activeIds, reset }) => {
    markShown();
    for (const item of items) for (const job of elements.get(item.id) ?? []) job.update(item, reset);
    if (!activeIds) return;
    // A job that is not listed has ended, or the list was too long for a frame.
    for (const [id, [job]] of elements) if (!activeIds.has(id)) read(job);
  });
  page.onOutage((isOut) => forEachElement((job) => job.showOutage(isOut)));
  updateTimes();

  return {
    connect: (element) => {
      const job = known.get(element) ?? new Job(element);
      known.set(element, job);
      job.connect();
      markShown(); // The frames that arrived before this module was loaded.
    },
    disconnect: (element) => known.get(element)?.disconnect(),
  };
}

/**
 * Make a node like another one. What is the same stays: the focus, what is selected, and a control as a person has set it.
 * @param {Element} shown
 * @param {Element} found
 */
function update(shown, found) {
  if (shown.isEqualNode(found)) return;
  if (shown.nodeName !== found.nodeName || !shown.firstChild) return shown.replaceWith(found);
  for (const name of shown.getAttributeNames())
    if (name !== "open" && !found.hasAttribute(name)) shown.removeAttribute(name);
  for (const { name, value } of found.attributes) shown.setAttribute(name, value);
  const before = /** @type {Element[]} */ ([...shown.childNodes]);
  for (const node of /** @type {Element[]} */ ([...found.childNodes]))
    update(before.shift() ?? shown.appendChild(document.createElement("i")), node);
  for (const node of before) node.remove();
}

/**
 * Return whether the page has not yet been reloaded for this version of the job. A page that is rendered with `reload`
 * although its job is done would reload endlessly.
 * @param {string} key
 */
function isFirstReload(key) {
  try {
    if (sessionStorage.getItem(key)) return false;
    sessionStorage.setItem(key, "1");
    return true;
  } catch {
    return false;
  }
}
