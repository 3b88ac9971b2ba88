// What all elements of a page do with DOM nodes: create them, mark a row as unread, and keep times up to date.

/**
 * @typedef {import("./client.js").Notification} Notification
 * @typedef {import("./localization.js").Localization} Localization
 */

/**
 * @template {keyof HTMLElementTagNameMap} K
 * @param {K} tag
 * @param {string} [className]
 * @param {string} [text]
 * @returns {HTMLElementTagNameMap[K]}
 */
export function createElement(tag, className = "", text = "") {
  const node = document.createElement(tag);
  node.className = className;
  node.textContent = text;
  if (node instanceof HTMLButtonElement) node.type = "button";
  return node;
}

/**
 * @param {string} className
 * @param {string} text
 * @param {string} href
 */
export function createLink(className, text, href) {
  const link = createElement("a", className, text);
  link.href = href;
  return link;
}

/** @param {Notification} item */
export function isUnread(item) {
  return item.read_at === null && item.archived_at === null;
}

/**
 * Show whether a row's notification is unread.
 * @param {HTMLElement} row
 * @param {boolean} isUnread
 * @param {Localization} localization
 */
export function updateUnreadMark(row, isUnread, localization) {
  row.toggleAttribute("data-unread", isUnread);
  const mark = row.querySelector(".notifications-unread");
  if (isUnread && !mark) {
    const text = `${localization.text("unread")}: `;
    row.prepend(createElement("span", "notifications-unread notifications-hidden", text));
  }
  if (!isUnread) mark?.remove();
}

/**
 * Return the row of a notification in a list, or null.
 * @param {Element} list
 * @param {string} id
 * @returns {HTMLElement|null}
 */
export function findRow(list, id) {
  return list.querySelector(`[data-id="${CSS.escape(id)}"]`);
}

/** The times that do not grow older. A long list has a thousand. */
const timesOfDay = new WeakSet();

/**
 * Render the times below a node: relative ones grow older, and the server does not know the time zone of the reader.
 * @param {ParentNode} root
 * @param {Localization} localization
 */
export function updateTimes(root, localization) {
  for (const time of /** @type {NodeListOf<HTMLTimeElement>} */ (
    root.querySelectorAll("time:is([data-relative], [data-exact])")
  )) {
    if (timesOfDay.has(time)) continue;
    const isRelative = time.hasAttribute("data-relative");
    // Below a heading that is a day. What is in an open group may be of another one.
    const hasDay = isRelative && time.closest("[data-day] > ul > :not([data-member])");
    if (hasDay) timesOfDay.add(time);
    const text = !isRelative
      ? localization.formatShort(time.dateTime)
      : hasDay
        ? localization.time.format(Date.parse(time.dateTime))
        : localization.formatRelative(time.dateTime);
    if (time.textContent !== text) time.textContent = text;
    time.title = localization.dateTime.format(Date.parse(time.dateTime));
  }
}
