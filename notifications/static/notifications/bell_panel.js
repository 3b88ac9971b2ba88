// The panel of the bell: the latest notifications, those that are unread, and what can be done with each.

/**
 * @typedef {import("./client.js").Notification} Notification
 * @typedef {import("./client.js").Change} Change
 * @typedef {import("./notifications.js").Page} Page
 */

const LIST_LENGTH = 8;
const PANEL_MARGIN_PX = 8;

/**
 * @param {HTMLElement} panel which is empty
 * @param {HTMLElement} button that opens it
 * @param {Page} page
 * @param {AbortSignal} signal aborted when the bell is removed
 */
export function connectPanel(panel, button, page, signal) {
  const { client, localization, dom, rows } = page;
  const { createElement } = dom;
  const head = createElement("div", "notifications-head");
  const markAllButton = createElement("button", "notifications-quiet", localization.text("read_all"));
  const newerButton = createElement("button", "notifications-news");
  const list = createElement("ul", "notifications-list");
  const note = createElement("p", "notifications-note");
  const retryButton = createElement("button", "notifications-quiet", localization.text("again"));
  const status = createElement("p", "notifications-status");
  const link = dom.createLink("notifications-foot", localization.text("see_all"), page.inboxUrl);
  const tabs = [false, true].map((isUnread) => {
    const tab = createElement(
      "button",
      "notifications-tab",
      localization.text(isUnread ? "unread" : "inbox"),
    );
    tab.addEventListener("click", () => showTab(isUnread));
    return tab;
  });
  /** @type {string[]} ids of the notifications in the list */
  let shownIds = [];
  let showsUnread = false;
  /** Ids of the notifications that are done, before the frame says so. */
  const doneIds = new Set();
  let shownState = /** @type {string|null} */ (null);
  /** What *Try again* does. */
  let retry = /** @type {() => unknown} */ (open);

  status.role = "status";
  markAllButton.addEventListener("click", markAllRead);
  newerButton.addEventListener("click", showLatest);
  retryButton.addEventListener("click", () => retry());
  head.append(...tabs, newerButton, markAllButton);
  panel.append(head, status, list, note, retryButton, link);
  panel.addEventListener("beforetoggle", (event) => event.newState === "open" && open());
  panel.addEventListener("toggle", placePanel);
  addEventListener("resize", placePanel, { signal });
  for (const stop of [
    client.on("change", handleChange),
    client.on("state", showState),
    page.onOutage(showState),
    () => page.openLists.delete(isOpen),
  ])
    signal.addEventListener("abort", stop);
  page.openLists.add(isOpen);
  showState();

  function open() {
    if (client.state === "signed_out") return;
    renderList();
    if (!shownIds.length) showNote(localization.text("loading"));
    load();
  }

  function load() {
    const failed = () => showNote(localization.text("unreadable"), open);
    page.loadLatest(LIST_LENGTH, showsUnread).then(showLatest, failed);
  }

  /** @param {boolean} isUnread whether only what is unread is listed */
  function showTab(isUnread) {
    showsUnread = isUnread;
    open();
  }

  function showLatest() {
    renderList();
    markShownSeen();
  }

  function renderList() {
    const latest = page
      .newerThan(-1)
      .filter((item) => !doneIds.has(item.id) && (!showsUnread || dom.isUnread(item)))
      .sort((a, b) => b.raised - a.raised)
      .slice(0, LIST_LENGTH);
    const ids = latest.map((item) => item.id);
    // Where the list is the same, new rows would take away the keyboard focus.
    if (ids.slice(0, shownIds.length).join() === shownIds.join()) {
      rows.updateRows(list, latest);
      list.append(...latest.slice(shownIds.length).map(createRow));
    } else list.replaceChildren(...latest.map(createRow));
    shownIds = ids;
    newerButton.hidden = true;
    markAllButton.hidden = !client.unread;
    for (const [index, tab] of tabs.entries()) tab.ariaPressed = String(showsUnread === Boolean(index));
    showNote(latest.length ? "" : localization.text(showsUnread ? "none_unread" : "empty"));
  }

  /** @param {Notification} item */
  function createRow(item) {
    const row = createElement("li", "notifications-item");
    row.dataset.id = item.id;
    row.dataset.level = item.level;
    const verbs = createElement("span", "notifications-verbs");
    verbs.append(
      createVerb("read", row, item),
      createVerb("archive", row, item),
      rows.createMenuButton(item),
    );
    row.append(rows.createMain(item), verbs);
    rows.updateRow(row, item);
    return row;
  }

  /**
   * @param {"read"|"archive"} verb
   * @param {HTMLElement} row
   * @param {Notification} item
   */
  function createVerb(verb, row, item) {
    const isRead = verb === "read";
    const button = createElement("button", `notifications-verb${isRead ? " notifications-if-unread" : ""}`);
    button.title = localization.text(isRead ? "read" : "done");
    button.ariaLabel = `${button.title}: ${item.title}`;
    button.append(rows.createIcon(page.icons[isRead ? "mail_open" : "success"]));
    button.addEventListener("click", () => change(verb, row, item));
    return button;
  }

  /**
   * Mark a row as read, or take it from the list, which is filled up again. The focus stays in the list.
   * @param {"read"|"archive"} verb
   * @param {HTMLElement} row
   * @param {Notification} item
   * @returns {Promise<void>}
   */
  async function change(verb, row, item) {
    try {
      await page.mark(verb, [item]);
    } catch {
      return showNote(localization.text("unsaved"), () => change(verb, row, item));
    }
    showNote("");
    const hadFocus = row.contains(document.activeElement);
    const next = verb === "read" ? row : (row.nextElementSibling ?? row.previousElementSibling);
    if (verb === "read") dom.updateUnreadMark(row, false, localization);
    else {
      doneIds.add(item.id);
      row.remove();
      shownIds = shownIds.filter((id) => id !== item.id);
      if (shownIds.length < LIST_LENGTH) load();
    }
    const target = next?.querySelector("a") ?? tabs[0];
    if (hadFocus) /** @type {HTMLElement} */ (target).focus();
  }

  /** @param {Change} change */
  function handleChange({ op, notifications }) {
    for (const { id } of notifications) doneIds.delete(id);
    if (!isOpen()) return;
    markAllButton.hidden = !client.unread;
    rows.updateRows(list, notifications);
    // A jobs frame brings no notifications: those that loadLatest() merges are rendered when it has ended.
    if (op === "jobs") return;
    // The list may have been loaded before the frame that counts its newest row.
    markShownSeen();
    const count = page.newerThan(newestShown()).length;
    if (!count) return;
    newerButton.textContent = localization.text("new", { count });
    newerButton.hidden = false;
  }

  function isOpen() {
    return panel.matches(":popover-open");
  }

  /** Return the greatest `raised` in the list. */
  function newestShown() {
    return Math.max(0, ...shownIds.map((id) => client.stream.notifications.get(id)?.raised ?? 0));
  }

  function markShownSeen() {
    if (isOpen()) void page.markSeen(newestShown());
  }

  /** @returns {Promise<void>} */
  async function markAllRead() {
    const raised = [...client.stream.notifications.values()].map((item) => item.raised);
    try {
      await page.markReadUpTo(Math.max(0, ...raised));
    } catch {
      return showNote(localization.text("unsaved"), markAllRead);
    }
    showNote("");
  }

  /** Show that the user is signed out, or that the server cannot be reached. */
  function showState() {
    const isSignedOut = client.state === "signed_out";
    const state = isSignedOut ? "signed_out" : page.isOut() ? "offline" : "";
    if (state === shownState) return;
    shownState = state;
    status.textContent = state && localization.text(state);
    if (!state && isOpen() && !retryButton.hidden) open(); // The server is back.
    if (!isSignedOut) return;
    status.append(" ", page.createSignInLink());
    list.replaceChildren();
    shownIds = [];
    newerButton.hidden = true;
    showNote("");
  }

  /**
   * @param {string} text
   * @param {() => unknown} [again] what is done again, because the server could not be reached
   */
  function showNote(text, again) {
    note.textContent = text;
    note.hidden = !text;
    retryButton.hidden = !again;
    retry = again ?? open;
    status.hidden = Boolean(again); // An outage is shown once.
  }

  /** Place the panel below the button and inside the window; a style sheet does not know where the button is. */
  function placePanel() {
    if (!isOpen()) return;
    const { left, right, bottom } = button.getBoundingClientRect();
    const width = panel.offsetWidth;
    const start = getComputedStyle(button).direction === "rtl" ? left : right - width;
    const maxLeft = document.documentElement.clientWidth - width - PANEL_MARGIN_PX;
    panel.style.left = `${Math.max(PANEL_MARGIN_PX, Math.min(start, maxLeft))}px`;
    panel.style.top = `${Math.max(PANEL_MARGIN_PX, bottom + PANEL_MARGIN_PX)}px`;
  }
}
