// <notifications-bell>: a button with the unseen count, which opens a list of the latest notifications.

/**
 * @typedef {import("./client.js").Notification} Notification
 * @typedef {import("./client.js").Change} Change
 * @typedef {import("./notifications.js").Page} Page
 */

const LIST_LENGTH = 8;
const PANEL_MARGIN_PX = 8;

/**
 * Replace the link to the inbox by a button with a panel.
 * @param {HTMLElement} element
 * @param {Page} page
 * @param {AbortSignal} signal aborted when the element is removed
 * @param {{bell_color: typeof import("./bell_color.js")}} modules
 */
export function connectElement(element, page, signal, { bell_color }) {
  bell_color.followLinks(element, signal);
  if (!("popover" in HTMLElement.prototype)) return;
  const { client, localization, dom } = page;
  const { createElement } = dom;
  const button = createElement("button", "notifications-button");
  const label = createElement("span", "notifications-hidden");
  const badge = createElement("span", "notifications-count");
  const asks = createElement("span", "notifications-count notifications-asks");
  const panel = createElement("div", "notifications-panel");
  const markAllButton = createElement("button", "notifications-quiet", localization.text("read_all"));
  const newerButton = createElement("button", "notifications-news");
  const list = createElement("ul", "notifications-list");
  const note = createElement("p", "notifications-note");
  const retryButton = createElement("button", "notifications-quiet", localization.text("again"));
  const status = createElement("p", "notifications-status");
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
  let { questions } = page;
  /** Ids of the notifications that are done, before the frame says so. */
  const doneIds = new Set();
  let titlePrefix = "";
  let shownState = /** @type {string|null} */ (null);
  /** What *Try again* does. */
  let retry = /** @type {() => unknown} */ (open);

  const icon = createElement("span", "notifications-icon");
  icon.ariaHidden = badge.ariaHidden = asks.ariaHidden = "true";
  button.popoverTargetElement = panel;
  button.append(icon, label, badge, asks);
  panel.popover = "auto";
  panel.role = "dialog";
  panel.ariaLabel = localization.text("notifications");
  panel.addEventListener("beforetoggle", (event) => event.newState === "open" && open());
  panel.addEventListener("toggle", placePanel);
  status.role = "status";
  element.replaceChildren(button, panel);
  document.addEventListener("visibilitychange", updateTitle, { signal });
  addEventListener("resize", placePanel, { signal });
  for (const stop of [
    client.on("change", handleChange),
    client.on("state", showState),
    page.onOutage(showState),
  ])
    signal.addEventListener("abort", stop);
  showState();

  /** Fill the panel when it is opened for the first time. */
  function buildPanel() {
    markAllButton.addEventListener("click", markAllRead);
    newerButton.addEventListener("click", showLatest);
    retryButton.addEventListener("click", () => retry());
    const head = createElement("div", "notifications-head");
    head.append(...tabs, markAllButton);
    const link = dom.createLink("notifications-foot", localization.text("see_all"), page.inboxUrl);
    panel.append(head, status, newerButton, list, note, retryButton, link);
  }

  function updateCount() {
    const [unread, unseen] = [client.unread ?? 0, client.unseen ?? 0];
    const counts = { count: unread, new: unseen };
    if (unseen) label.textContent = localization.text("bell_new", counts);
    else label.textContent = unread ? localization.text("bell", counts) : localization.text("bell_none");
    badge.textContent = localization.formatBadge(unseen);
    badge.hidden = unseen === 0;
    // They do not fade when the list is shown.
    if (questions) label.append(`, ${localization.text("bell_questions", { count: questions })}`);
    asks.textContent = `?${localization.formatBadge(questions)}`;
    asks.hidden = questions === 0;
    markAllButton.hidden = unread === 0;
    updateTitle();
  }

  /** Put the unseen count before the title of a hidden tab. The page may have changed its title meanwhile. */
  function updateTitle() {
    const { title, visibilityState } = document;
    const ownTitle = title.startsWith(titlePrefix) ? title.slice(titlePrefix.length) : title;
    const unseen = client.unseen ?? 0;
    titlePrefix = visibilityState === "hidden" && unseen ? `(${localization.formatBadge(unseen)}) ` : "";
    if (title !== titlePrefix + ownTitle) document.title = titlePrefix + ownTitle;
  }

  function open() {
    if (!panel.hasChildNodes()) buildPanel();
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
      dom.updateRows(list, latest, page);
      list.append(...latest.slice(shownIds.length).map(createRow));
    } else list.replaceChildren(...latest.map(createRow));
    shownIds = ids;
    newerButton.hidden = true;
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
      dom.createMenuButton(item, page),
    );
    row.append(dom.createMain(item, page), verbs);
    dom.updateRow(row, item, page);
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
    button.append(dom.createIcon(page.icons[isRead ? "mail_open" : "success"]));
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
  function handleChange({ op, reset, notifications }) {
    updateCount();
    if (op !== "jobs" && (reset || notifications.some((item) => item.data.question))) void countQuestions();
    for (const { id } of notifications) doneIds.delete(id);
    if (!isOpen()) return;
    dom.updateRows(list, notifications, page);
    // A jobs frame brings no notifications: those that loadLatest() merges are rendered when it has ended.
    if (op === "jobs") return;
    // The list may have been loaded before the frame that counts its newest row.
    markShownSeen();
    const count = page.newerThan(newestShown()).length;
    if (!count) return;
    newerButton.textContent = localization.text("new", { count });
    newerButton.hidden = false;
  }

  async function countQuestions() {
    try {
      questions = await page.countQuestions();
      updateCount();
    } catch {
      // It is the number of before, until the next change of a question.
    }
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

  /** Show that the user is signed out, or that the server cannot be reached, at the closed bell too. */
  function showState() {
    const isSignedOut = client.state === "signed_out";
    const state = isSignedOut ? "signed_out" : page.isOut() ? "offline" : "";
    if (state === shownState) return;
    shownState = element.dataset.state = state;
    if (isSignedOut) questions = 0;
    updateCount();
    button.title = status.textContent = state && localization.text(state);
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
    const start = getComputedStyle(element).direction === "rtl" ? left : right - width;
    const maxLeft = document.documentElement.clientWidth - width - PANEL_MARGIN_PX;
    panel.style.left = `${Math.max(PANEL_MARGIN_PX, Math.min(start, maxLeft))}px`;
    panel.style.top = `${Math.max(PANEL_MARGIN_PX, bottom + PANEL_MARGIN_PX)}px`;
  }
}
