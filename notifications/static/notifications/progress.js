// <job-progress>: the state of one job, live, in place of what the server rendered.

/**
 * @typedef {import("./client.js").JobItem} JobItem
 * @typedef {import("./notifications.js").Page} Page
 */

/** @param {Page} page */
export function define(page) {
  const { client, jobs, words } = page;

  class JobProgress extends HTMLElement {
    /** @type {(() => void)[]} */
    #ends = [];
    #announced = -1;
    #version = -1;

    connectedCallback() {
      if (this.#ends.length) return;
      const id = this.getAttribute("job");
      if (!id) throw new Error("<job-progress>: the attribute job is missing");
      this.#parts();
      // Not by its handle, which ends with the job: one that failed may be tried again, by whomever.
      const follow = () => jobs.job(id, this.getAttribute("href") ?? undefined);
      let wasSignedOut = false;
      this.#ends = [
        client.on("change", ({ jobs }) => {
          for (const item of jobs) if (item.id === id) this.#take(item);
        }),
        client.on("state", (state) => {
          if (wasSignedOut && state !== "signed_out") follow(); // all handles were given up
          wasSignedOut = state === "signed_out";
        }),
      ];
      const job = follow();
      if (job.item) this.#take(job.item);
    }

    disconnectedCallback() {
      for (const end of this.#ends.splice(0)) end();
      this.#version = -1;
    }

    /** @returns {{bar: HTMLProgressElement, text: Element, live: Element}} made where the server rendered none */
    #parts() {
      const bar = this.querySelector("progress") ?? this.appendChild(document.createElement("progress"));
      let live = this.querySelector("[role=status]");
      if (!live) {
        live = document.createElement("span");
        live.className = "notifications-hidden";
        live.setAttribute("role", "status");
        this.append(live);
      }
      const text =
        this.querySelector("[data-text], span:not([role]), p, output") ??
        this.insertBefore(document.createElement("span"), live);
      if (!bar.hasAttribute("aria-label") && !bar.labels.length)
        bar.setAttribute("aria-label", words.say("progress"));
      return { bar, text, live };
    }

    /** @param {JobItem} item */
    #take(item) {
      if (item.version <= this.#version) return;
      this.#version = item.version;
      this.#draw(item);
      if (item.done) this.#done(item);
    }

    /** @param {JobItem} item */
    #draw(item) {
      const { bar, text } = this.#parts();
      const { current = 0, total = null } = item.progress ?? {};
      this.dataset.state = item.state;
      if (item.state === "succeeded") bar.value = bar.max;
      else if (total === null || item.state === "queued") bar.removeAttribute("value");
      else {
        bar.max = Math.max(total, 1);
        bar.value = Math.min(current, total);
      }
      bar.hidden = item.done && item.state !== "succeeded";
      text.textContent = this.#sentence(item);
      this.#announce(item);
      this.dispatchEvent(new CustomEvent("job:progress", { bubbles: true, detail: item }));
    }

    /** @param {JobItem} item */
    #sentence(item) {
      const parts = [];
      if (item.state === "failed") {
        parts.push(words.say("failed", { reason: item.error?.detail || item.error?.title || "" }));
      } else if (item.state !== "running") {
        parts.push(words.say(item.state));
      } else if (item.progress) {
        const { current, total, message } = item.progress;
        if (message) parts.push(message);
        if (total !== null) {
          parts.push(
            words.say("of", { current: words.number.format(current), total: words.number.format(total) }),
          );
        }
      }
      if (parts.length === 0) parts.push(words.say("running"));
      if (item.attempt > 1)
        parts.push(words.say("attempt", { attempt: item.attempt, most: item.max_attempts }));
      return parts.join(" · ");
    }

    /**
     * Start, quarters and end are enough to hear.
     * @param {JobItem} item
     */
    #announce(item) {
      const { current = 0, total = null } = item.progress ?? {};
      const part = item.done ? 4 : total ? Math.min(3, Math.floor((4 * current) / total)) : 0;
      if (item.state === "queued") this.#announced = -1;
      if (item.state === "queued" || part <= this.#announced) return;
      this.#announced = part;
      this.#parts().live.textContent = this.#sentence(item);
    }

    /** @param {JobItem} item */
    #done(item) {
      this.dispatchEvent(new CustomEvent("job:done", { bubbles: true, detail: item }));
      if (this.hasAttribute("reload") && firstTime(`${page.name}:reloaded:${item.id}:${item.version}`)) {
        location.reload();
      }
    }
  }

  if (!customElements.get("job-progress")) customElements.define("job-progress", JobProgress);
}

/**
 * A page that still says `reload` about a job that is done would reload for ever.
 * @param {string} key
 */
function firstTime(key) {
  try {
    if (sessionStorage.getItem(key)) return false;
    sessionStorage.setItem(key, "1");
    return true;
  } catch {
    return false;
  }
}
