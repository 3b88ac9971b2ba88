// Formats text, numbers and times in the language of the page, with strings that the server has translated.

const MINUTE_SECONDS = 60;
const HOUR_SECONDS = 60 * MINUTE_SECONDS;
const DAY_SECONDS = 24 * HOUR_SECONDS;

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
    this.date = new Intl.DateTimeFormat(locales, { dateStyle: "medium" });
    this.dateTime = new Intl.DateTimeFormat(locales, { dateStyle: "medium", timeStyle: "medium" });
    this.number = new Intl.NumberFormat(locales);
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
