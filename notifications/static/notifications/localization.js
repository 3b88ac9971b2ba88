// Formats text, numbers and times in the language of the page, with strings that the server has translated.

const MINUTE_SECONDS = 60;
const HOUR_SECONDS = 60 * MINUTE_SECONDS;
const DAY_SECONDS = 24 * HOUR_SECONDS;

export class Localization {
  #strings;

  /**
   * @param {object} options
   * @param {Record<string, string>} options.strings with {placeholders}
   * @param {string} options.language of the page
   * @param {() => number} options.now
   */
  constructor({ strings, language, now }) {
    this.#strings = strings;
    this.now = now;
    const locales = canonicalize(language);
    this.time = new Intl.DateTimeFormat(locales, { hour: "2-digit", minute: "2-digit", hourCycle: "h23" });
    // In most languages the server's names of months are not those of "medium".
    const dateStyle = /^(en|de)\b/.test(language) ? "medium" : "long";
    this.date = new Intl.DateTimeFormat(locales, { dateStyle });
    /** @type {Intl.DateTimeFormatOptions} */
    const day = { month: "long", day: "numeric" };
    if (/^en\b/.test(language)) day.month = "short";
    if (/^de\b/.test(language)) Object.assign(day, { month: "2-digit", day: "2-digit" });
    this.day = new Intl.DateTimeFormat(locales, day);
    this.relativeDay = new Intl.RelativeTimeFormat(locales, { numeric: "auto" });
    this.dateTime = new Intl.DateTimeFormat(locales, { dateStyle: "medium", timeStyle: "short" });
    this.number = new Intl.NumberFormat(locales, { useGrouping: "always" });
  }

  /**
   * Return a translated string with its placeholders filled in, and numbers in the language of the page.
   * @param {string} key
   * @param {Record<string, string|number>} [values]
   */
  text(key, values = {}) {
    const text = this.#strings[key] ?? key;
    return text.replace(/\{(\w+)\}/g, (placeholder, name) => {
      const value = values[name] ?? placeholder;
      return typeof value === "string" ? value : this.number.format(value);
    });
  }

  /**
   * Format a count for a badge, which has room for two digits.
   * @param {number} count
   */
  formatBadge(count) {
    return count > 99 ? "99+" : this.number.format(count);
  }

  /**
   * Format a past time relative to now, or as a date if it is a day or more ago, without this year, in the words of the
   * template filter `relative_time`.
   * @param {string} iso
   */
  formatRelative(iso) {
    const seconds = this.secondsSince(iso);
    if (seconds < MINUTE_SECONDS) return this.text("now");
    if (seconds < DAY_SECONDS) return this.formatSpan(seconds, "ago", Math.trunc);
    return this.#formatDay(iso);
  }

  /** @param {string} iso */
  #formatDay(iso) {
    const isThisYear = new Date(iso).getFullYear() === new Date(this.now()).getFullYear();
    return (isThisYear ? this.day : this.date).format(Date.parse(iso));
  }

  /**
   * Format a time that matters to the minute: "tomorrow, 08:00", or with a date, without this year.
   * @param {string} iso
   */
  formatShort(iso) {
    const [day, today] = [Date.parse(iso), this.now()].map((time) => new Date(time).setHours(0, 0, 0, 0));
    const days = Math.round((day - today) / 1000 / DAY_SECONDS);
    const dayText = Math.abs(days) < 2 ? this.relativeDay.format(days, "day") : this.#formatDay(iso);
    return `${dayText}, ${this.time.format(Date.parse(iso))}`;
  }

  /**
   * Format a number of seconds in the largest unit of which there is at least one.
   * @param {number} seconds
   * @param {"ago"|"left"|"running"} suffix of the keys of the strings
   * @param {(count: number, unit: string) => number} round
   */
  formatSpan(seconds, suffix, round) {
    const [unit, length] =
      seconds < MINUTE_SECONDS
        ? ["seconds", 1]
        : seconds < HOUR_SECONDS
          ? ["minutes", MINUTE_SECONDS]
          : ["hours", HOUR_SECONDS];
    return this.text(`${unit}_${suffix}`, { count: round(seconds / length, unit) });
  }

  /** @param {string} iso */
  secondsSince(iso) {
    return (this.now() - Date.parse(iso)) / 1000;
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
