// One notification as nodes: what bell and toasts show of it.

/**
 * @typedef {import("./client.js").Notification} Notification
 * @typedef {import("./notifications.js").Page} Page
 */

/**
 * Title (a link, which marks as read when followed), text, and what stands below it.
 * @param {Pick<Page, "words"|"inbox"|"read">} page
 * @param {Notification} item
 * @returns {HTMLElement}
 */
export function summarize(page, item) {
  const node = document.createElement("div");
  node.className = "notifications-summary";
  const title = document.createElement("a");
  title.className = "notifications-title";
  title.dir = "auto";
  title.textContent = item.title;
  title.append(separator());
  const link = page.words.link(item.url);
  title.href = link?.href ?? page.inbox;
  if (link?.outside) title.rel = "noopener noreferrer";
  const read = () => void page.read([item]);
  title.addEventListener("click", read);
  title.addEventListener("auxclick", (event) => event.button === 1 && read());
  node.append(title);
  if (item.body) {
    const body = document.createElement("span");
    body.className = "notifications-body";
    body.dir = "auto";
    body.textContent = item.body;
    body.append(separator());
    node.append(body);
  }
  node.append(about(page, item));
  return node;
}

/**
 * @param {Pick<Page, "words">} page
 * @param {Notification} item
 */
function about({ words }, item) {
  const node = document.createElement("span");
  node.className = "notifications-about";
  if (item.level !== "info") {
    const level = document.createElement("span");
    level.className = "notifications-level";
    level.textContent = words.say(item.level);
    node.append(level, " · ");
  }
  const time = document.createElement("time");
  time.dateTime = item.created_at;
  time.textContent = words.ago(item.created_at);
  time.title = words.exact(item.created_at);
  node.append(time);
  return node;
}

/** Keeps what is heard in one breath apart: the parts stand on lines of their own only for the eye. */
function separator() {
  const node = document.createElement("span");
  node.className = "notifications-hidden";
  node.textContent = ". ";
  return node;
}
