// DOM nodes that the elements share: one notification, its unread mark, and links that are safe to follow.

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

/**
 * Return an icon that is drawn with a line.
 * @param {string} path of 24 x 24 units
 */
export function createIcon(path) {
  const [icon, line] = ["svg", "path"].map((tag) =>
    document.createElementNS("http://www.w3.org/2000/svg", tag),
  );
  icon.setAttribute("class", "notifications-symbol");
  icon.setAttribute("viewBox", "0 0 24 24");
  icon.ariaHidden = "true";
  line.setAttribute("d", path);
  icon.append(line);
  return icon;
}

/**
 * Return the nodes of one notification: its icon or initials, its title as a link, its body and time.
 * @param {Notification} item
 * @param {object} options
 * @param {Record<string, string>} options.icons paths by name
 * @param {Localization} options.localization
 * @param {string} options.inboxUrl the target of the title if the notification has no URL
 * @param {import("./notifications.js").Page["localizeUrl"]} options.localizeUrl
 * @param {import("./notifications.js").Page["mark"]} options.mark called when the title is followed
 * @returns {HTMLElement}
 */
export function createSummary(item, { icons, localization, inboxUrl, localizeUrl, mark }) {
  const summary = createElement("div", "notifications-summary");
  const link = parseLink(localizeUrl(item.url), location.origin);
  const title = createLink("notifications-title", item.title, link?.href ?? inboxUrl);
  title.dir = "auto";
  title.append(createSeparator());
  if (link?.isExternal) title.rel = "noopener noreferrer";
  // The page leaves for the notification's URL: there is no place for an error.
  const markFollowed = () => mark("read", [item]).catch(() => undefined);
  title.addEventListener("click", markFollowed);
  title.addEventListener("auxclick", (event) => event.button === 1 && markFollowed());
  summary.append(createDisc(item, icons, localization), title);
  if (item.body) {
    const body = createElement("span", "notifications-body", item.body);
    body.dir = "auto";
    body.append(createSeparator());
    summary.append(body);
  }
  summary.append(createTime(item, localization));
  return summary;
}

/**
 * Return the summary of a notification with its actions.
 * @param {Notification} item
 * @param {import("./notifications.js").Page} page
 */
export function createMain(item, page) {
  const main = createElement("div", "notifications-main");
  const actions = createActions(item, page.getActionUrl);
  main.append(createSummary(item, page), ...(actions ? [actions] : []));
  return main;
}

/**
 * Return the links of the actions of a notification, null if it has none. One that posts leads to a page that asks for
 * confirmation. The choices of a question are answered in place, or on its page.
 * @param {Notification} item
 * @param {(id: string, number: number) => string} getActionUrl
 * @returns {HTMLElement|null}
 */
export function createActions({ id, title, data }, getActionUrl) {
  const actions = /** @type {{label: string, url?: string, post?: string}[]} */ (data.actions);
  if (!Array.isArray(actions)) return null;
  const list = createElement("div", "notifications-actions");
  for (const [number, action] of actions.entries()) {
    const { label, url, post } = Object(action);
    const page = data.question?.links.page ?? getActionUrl(id, number);
    const link = parseLink(post ? page : (url ?? ""), location.origin);
    if (!link || typeof label !== "string") continue;
    const node = createLink("notifications-plainbutton", label, link.href);
    if (link.isExternal) node.rel = "noopener noreferrer";
    node.ariaLabel = `${label}: ${title}`;
    if (data.question && post) node.dataset.answer = post;
    list.append(node);
  }
  return list.hasChildNodes() ? list : null;
}

/**
 * Return the button that shows the verbs of a row where no pointer can hover over it.
 * @param {Notification} item
 * @param {import("./notifications.js").Page} page
 */
export function createMenuButton({ title }, { icons, localization }) {
  const button = createElement("button", "notifications-verb notifications-menu");
  button.ariaHasPopup = "dialog";
  button.ariaLabel = `${localization.text("more")}: ${title}`;
  button.append(createIcon(icons.more));
  return button;
}

/** @param {Notification} item */
export function isUnread(item) {
  return item.read_at === null && item.archived_at === null;
}

/** @param {Notification} item */
export function isOpenQuestion({ data }) {
  return data.question?.ended === null;
}

/**
 * Show in the rows of a list which notifications are unread, and which questions were answered, by whom.
 * @param {Element} list
 * @param {Notification[]} items
 * @param {import("./notifications.js").Page} page
 */
export function updateRows(list, items, page) {
  for (const item of items) {
    const row = findRow(list, item.id);
    // An open question stays as it is: its buttons may be pressed.
    const main = row?.querySelector("[data-question] .notifications-main");
    if (row) updateRow(row, item, page);
    if (!isOpenQuestion(item)) main?.replaceWith(createMain(item, page));
  }
}

/**
 * @param {HTMLElement} row
 * @param {Notification} item
 * @param {import("./notifications.js").Page} page
 */
export function updateRow(row, item, { localization }) {
  updateUnreadMark(row, isUnread(item), localization);
  row.toggleAttribute("data-question", isOpenQuestion(item));
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

/**
 * @param {string|null} url
 * @param {string} origin of the page
 * @returns {{href: string, isExternal: boolean}|null} null if the URL is not safe to follow
 */
export function parseLink(url, origin) {
  if (!url) return null;
  const isPath = /^\/(?![/\\])/.test(url);
  if (!isPath && !/^https?:\/\//i.test(url)) return null;
  if (!URL.canParse(url, origin)) return null;
  return { href: url, isExternal: new URL(url, origin).origin !== origin };
}

/**
 * Return the initials of the person who caused a notification, or its icon, and its level for screen readers.
 * @param {Notification} item
 * @param {Record<string, string>} icons
 * @param {Localization} localization
 */
function createDisc({ level, job, data }, icons, localization) {
  const disc = createElement("span", "notifications-disc");
  // A name, or with its image.
  const { name, image } = Object(typeof data.actor === "string" ? { name: data.actor } : data.actor);
  const words = typeof name === "string" ? name.split(/\s+/).filter(Boolean) : [];
  const initials = [...words.slice(0, 1), ...words.slice(1).slice(-1)].map((word) => [...word][0]).join("");
  const symbol = createElement("span", "", initials.toUpperCase());
  symbol.ariaHidden = "true";
  const icon = Object.hasOwn(icons, String(data.icon)) ? String(data.icon) : level;
  if (!initials) symbol.append(createIcon(icons[icon] ?? icons.info));
  disc.append(symbol);
  const source = parseLink(image, location.origin);
  if (source) {
    const picture = createElement("img");
    Object.assign(picture, { alt: "", referrerPolicy: "no-referrer", src: source.href });
    disc.append(picture);
  }
  // The title or body of a job's notification says how it ended, except for a failure.
  const text = job ? level === "error" && "failed" : level !== "info" && level;
  if (text) disc.append(createElement("span", "notifications-hidden", `${localization.text(text)}. `));
  return disc;
}

/**
 * @param {Notification} item
 * @param {Localization} localization
 */
function createTime({ created_at }, localization) {
  const node = createElement("span", "notifications-time");
  const time = createElement("time");
  time.dateTime = created_at;
  time.dataset.relative = "";
  node.append(time);
  updateTimes(node, localization);
  return node;
}

/**
 * Render the times below a node: relative ones grow older, and the server does not know the time zone of the reader.
 * @param {ParentNode} root
 * @param {Localization} localization
 */
export function updateTimes(root, localization) {
  for (const time of /** @type {NodeListOf<HTMLTimeElement>} */ (
    root.querySelectorAll("time:is([data-relative], [data-exact])")
  )) {
    const exact = localization.formatExact(time.dateTime);
    const isRelative = time.hasAttribute("data-relative");
    const text = isRelative ? localization.formatRelative(time.dateTime) : exact;
    if (time.textContent !== text) time.textContent = text;
    if (isRelative) time.title = exact;
  }
}

/** Return a hidden full stop: the parts are on lines of their own, but a screen reader would run them together. */
function createSeparator() {
  return createElement("span", "notifications-hidden", ". ");
}
