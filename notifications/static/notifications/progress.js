// <notifications-progress>: shows the progress of one job, live, in the nodes that the server rendered.

/**
 * @typedef {import("./client.js").JobItem} JobItem
 * @typedef {import("./notifications.js").Page} Page
 */

/** @param {Page} page */
export function define(page) {
  const { client, jobs, localization, dom } = page;

  class JobProgress extends HTMLElement {
    /** @type {(() => void)[]} */
    #cleanups = [];
    /** The last quarter that was announced to screen readers; -1: none. */
    #announcedQuarter = -1;
    #version = -1;

    connectedCallback() {
      if (this.#cleanups.length) return;
      const id = this.getAttribute("job");
      if (!id) throw new Error("<notifications-progress> needs the attribute job.");
      this.#ensureParts();
      // The handle only makes the job known to the client. It ends with the job, which may be retried later.
      const follow = () => jobs.job(id, this.getAttribute("href") ?? undefined);
      let wasSignedOut = false;
      this.#cleanups = [
        client.on("change", ({ jobs }) => {
          for (const item of jobs) if (item.id === id) this.#update(item);
        }),
        client.on("state", (state) => {
          if (wasSignedOut && state !== "signed_out") follow(); // Signing out has ended all handles.
          wasSignedOut = state === "signed_out";
        }),
      ];
      const { item } = follow();
      if (item) this.#update(item);
    }

    disconnectedCallback() {
      for (const cleanup of this.#cleanups.splice(0)) cleanup();
      this.#version = -1;
    }

    /** @returns {{bar: HTMLProgressElement, text: Element, status: Element}} created where the server rendered none */
    #ensureParts() {
      const bar = this.querySelector("progress") ?? this.appendChild(document.createElement("progress"));
      let status = this.querySelector("[role=status]");
      if (!status) {
        status = dom.createElement("span", "notifications-hidden");
        status.setAttribute("role", "status");
        this.append(status);
      }
      const text =
        this.querySelector("[data-text], span:not([role]), p, output") ??
        this.insertBefore(document.createElement("span"), status);
      if (!bar.hasAttribute("aria-label") && !bar.labels.length)
        bar.setAttribute("aria-label", localization.text("progress"));
      return { bar, text, status };
    }

    /** @param {JobItem} item */
    #update(item) {
      if (item.version <= this.#version) return;
      this.#version = item.version;
      this.#render(item);
      this.dispatchEvent(new CustomEvent("notifications:job-progress", { bubbles: true, detail: item }));
      if (item.done) this.#handleDone(item);
    }

    /** @param {JobItem} item */
    #render(item) {
      const { bar, text } = this.#ensureParts();
      const { current = 0, total = null } = item.progress ?? {};
      this.dataset.state = item.state;
      if (item.state === "succeeded") bar.value = bar.max;
      else if (total === null || item.state === "queued") bar.removeAttribute("value");
      else {
        bar.max = Math.max(total, 1);
        bar.value = Math.min(current, total);
      }
      bar.hidden = item.done && item.state !== "succeeded";
      text.textContent = this.#describe(item);
      this.#announce(item);
    }

    /** @param {JobItem} item */
    #describe(item) {
      const parts = [];
      if (item.state === "failed") {
        const reason = item.error?.detail || item.error?.title || "";
        parts.push(localization.text("failed", { reason }));
      } else if (item.state !== "running") {
        parts.push(localization.text(item.state));
      } else if (item.progress) {
        const { current, total, message } = item.progress;
        if (message) parts.push(message);
        if (total !== null) {
          const values = {
            current: localization.formatNumber(current),
            total: localization.formatNumber(total),
          };
          parts.push(localization.text("of", values));
        }
      }
      if (parts.length === 0) parts.push(localization.text("running"));
      if (item.attempt > 1)
        parts.push(localization.text("attempt", { attempt: item.attempt, most: item.max_attempts }));
      return parts.join(" · ");
    }

    /**
     * Announce the start, the quarters and the end to screen readers.
     * @param {JobItem} item
     */
    #announce(item) {
      const { current = 0, total = null } = item.progress ?? {};
      const quarter = item.done ? 4 : total ? Math.min(3, Math.floor((4 * current) / total)) : 0;
      if (item.state === "queued") this.#announcedQuarter = -1;
      if (item.state === "queued" || quarter <= this.#announcedQuarter) return;
      this.#announcedQuarter = quarter;
      this.#ensureParts().status.textContent = this.#describe(item);
    }

    /** @param {JobItem} item */
    #handleDone(item) {
      this.dispatchEvent(new CustomEvent("notifications:job-done", { bubbles: true, detail: item }));
      if (this.hasAttribute("reload") && isFirstReload(`${page.name}:reloaded:${item.id}:${item.version}`)) {
        location.reload();
      }
    }
  }

  if (!customElements.get("notifications-progress"))
    customElements.define("notifications-progress", JobProgress);
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
