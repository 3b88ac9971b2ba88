// What the elements say: the server's translated strings, numbers, times, and links that are safe to follow.

const MINUTE = 60;
const HOUR = 60 * MINUTE;
const DAY = 24 * HOUR;

export class Words {
  #strings;
  #now;
  #origin;

  /**
   * @param {object} options
   * @param {Record<string, string>} options.strings with {placeholders}
   * @param {string} options.language of the page
   * @param {string} options.origin of the page
   * @param {() => number} options.now
   */
  constructor({ strings, language, origin, now }) {
    this.#strings = strings;
    this.#now = now;
    this.#origin = origin;
    const known = canonical(language);
    this.relative = new Intl.RelativeTimeFormat(known, { numeric: "auto", style: "short" });
    this.day = new Intl.DateTimeFormat(known, { dateStyle: "medium" });
    this.moment = new Intl.DateTimeFormat(known, { dateStyle: "medium", timeStyle: "medium" });
    this.number = new Intl.NumberFormat(known);
  }

  /**
   * @param {string} key
   * @param {Record<string, string|number>} [values]
   */
  say(key, values = {}) {
    const text = this.#strings[key] ?? key;
    return text.replace(/\{(\w+)\}/g, (whole, name) => String(values[name] ?? whole));
  }

  /** @param {number} count */
  count(count) {
    return count > 99 ? "99+" : this.number.format(count);
  }

  /** @param {string} iso */
  ago(iso) {
    const seconds = (Date.parse(iso) - this.#now()) / 1000;
    const age = Math.abs(seconds);
    if (age < MINUTE) return this.say("now");
    if (age < HOUR) return this.relative.format(Math.trunc(seconds / MINUTE), "minute");
    if (age < DAY) return this.relative.format(Math.trunc(seconds / HOUR), "hour");
    return this.day.format(Date.parse(iso));
  }

  /** @param {string} iso */
  exact(iso) {
    return this.moment.format(Date.parse(iso));
  }

  /**
   * @param {string|null} url
   * @returns {{href: string, outside: boolean}|null} null: not a link that may be followed
   */
  link(url) {
    if (!url) return null;
    const path = /^\/(?![/\\])/.test(url);
    if (!path && !/^https?:\/\//i.test(url)) return null;
    if (!URL.canParse(url, this.#origin)) return null;
    return { href: url, outside: new URL(url, this.#origin).origin !== this.#origin };
  }
}

/** @param {string} language */
function canonical(language) {
  try {
    return Intl.getCanonicalLocales(language);
  } catch {
    return []; // Django allows names that are no BCP 47 tags; the browser's own language is used then.
  }
}
