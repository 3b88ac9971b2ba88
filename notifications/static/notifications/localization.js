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
    this.relative = new Intl.RelativeTimeFormat(locales, { numeric: "auto", style: "short" });
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
   * Format a time relative to now, or as a date if it is a day or more away.
   * @param {string} iso
   */
  formatRelative(iso) {
    const seconds = (Date.parse(iso) - this.#now()) / 1000;
    const distance = Math.abs(seconds);
    if (distance < MINUTE_SECONDS) return this.text("now");
    if (distance < HOUR_SECONDS) return this.relative.format(Math.trunc(seconds / MINUTE_SECONDS), "minute");
    if (distance < DAY_SECONDS) return this.relative.format(Math.trunc(seconds / HOUR_SECONDS), "hour");
    return this.date.format(Date.parse(iso));
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
