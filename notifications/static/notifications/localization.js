// Formats text, numbers and times in the language of the page, with strings that the server has translated.

const MINUTE_SECONDS = 60;
const HOUR_SECONDS = 60 * MINUTE_SECONDS;
const DAY_SECONDS = 24 * HOUR_SECONDS;
/** Earlier, one slow step would make the estimate of a pace meaningless. */
const MIN_PACE_SECONDS = 5;

export class Localization {
  #strings;
  #now;

  /**
   * @param {object} options
   * @param {Record<string, string>} options.strings with {placeholders}
   * @param {string} options.language of the page
   * @param {() => number} options.now
   */
  constructor({ strings, language, now }) {
    this.#strings = strings;
    this.#now = now;
    const locales = canonicalize(language);
    this.time = new Intl.DateTimeFormat(locales, { hour: "2-digit", minute: "2-digit", hourCycle: "h23" });
    // In most languages the server's names of months are not those of "medium".
    const dateStyle = /^(en|de)\b/.test(language) ? "medium" : "long";
    this.date = new Intl.DateTimeFormat(locales, { dateStyle });
    this.dateTime = new Intl.DateTimeFormat(locales, { dateStyle: "medium", timeStyle: "medium" });
    this.number = new Intl.NumberFormat(locales, { useGrouping: "always" });
  }

  /**
   * Return a translated string with its placeholders filled in.
   * @param {string} key
   * @param {Record<string, string|number>} [values]
   */
  text(key, values = {}) {
    const text = this.#strings[key] ?? key;
    return text.replace(/\{(\w+)\}/g, (placeholder, name) => String(values[name] ?? placeholder));
  }

  /** @param {number} number */
  formatNumber(number) {
    return this.number.format(number);
  }

  /**
   * Format a count for a badge, which has room for two digits.
   * @param {number} count
   */
  formatBadge(count) {
    return count > 99 ? "99+" : this.number.format(count);
  }

  /**
   * Format a past time relative to now, or as a date if it is a day or more ago, in the words of the template filter
   * `relative_time`.
   * @param {string} iso
   */
  formatRelative(iso) {
    const seconds = (this.#now() - Date.parse(iso)) / 1000;
    if (seconds < MINUTE_SECONDS) return this.text("now");
    if (seconds < HOUR_SECONDS)
      return this.text("minutes_ago", { count: Math.trunc(seconds / MINUTE_SECONDS) });
    if (seconds < DAY_SECONDS) return this.text("hours_ago", { count: Math.trunc(seconds / HOUR_SECONDS) });
    return this.date.format(Date.parse(iso));
  }

  /**
   * Return the word for the state of a job, as `describe_state()` does on the server.
   * @param {import("./client.js").JobItem} item
   */
  formatState({ state, attempt, run_after }) {
    const start = state === "queued" && attempt > 0 && run_after ? Date.parse(run_after) : 0;
    if (start <= this.#now()) return this.text(state);
    const format = start - this.#now() < DAY_SECONDS * 1000 ? this.time : this.dateTime;
    return this.text("retry_at", { time: format.format(start) });
  }

  /**
   * Return how fast a job advances and how long it will still take, as `describe_pace()` does on the server, or "".
   * @param {import("./client.js").JobItem} item
   */
  formatPace({ state, attempt, started_at, progress }) {
    const { current = 0, total = null } = progress ?? {};
    if (state !== "running" || attempt !== 1 || !started_at || !current || total === null) return "";
    const elapsed = (this.#now() - Date.parse(started_at)) / 1000;
    if (current >= total || elapsed < MIN_PACE_SECONDS) return "";
    const perSecond = current / elapsed;
    const rate =
      perSecond >= 1
        ? this.text("per_second", { count: this.#round(perSecond) })
        : this.text("per_minute", { count: this.#round(perSecond * 60) });
    return this.text("pace", { rate, time: this.#formatRest((total - current) / perSecond) });
  }

  /** @param {number} seconds */
  #formatRest(seconds) {
    if (seconds < MINUTE_SECONDS)
      return this.text("seconds_left", { count: this.#round(Math.max(1, Math.round(seconds))) });
    if (seconds < HOUR_SECONDS)
      return this.text("minutes_left", { count: this.#round(Math.round(seconds / MINUTE_SECONDS)) });
    return this.text("hours_left", { count: this.#round(seconds / HOUR_SECONDS) });
  }

  /** @param {number} number without decimals from 10 on, else with at most one */
  #round(number) {
    return this.formatNumber(number >= 10 ? Math.round(number) : Math.round(number * 10) / 10);
  }

  /** @param {string} iso */
  formatExact(iso) {
    return this.dateTime.format(Date.parse(iso));
  }
}

/** @param {string} language */
function canonicalize(language) {
  try {
    return Intl.getCanonicalLocales(language);
  } catch {
    return []; // Django allows names that are no BCP 47 tags; the browser's language is used then.
  }
}
