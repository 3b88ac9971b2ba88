// The panel of the bell: the latest notifications, those that are unread, and what can be done with each.

/**
 * @typedef {import("./client.js").Notification} Notification
 * @typedef {import("./client.js").Change} Change
 * @typedef {import("./notifications.js").Page} Page
 */

const LIST_LENGTH = 8;
/** Open questions above the list. */
const MAX_WAITING = 3;
/** The queries of the tabs, by the names of their texts. */
const TABS = { inbox: "", unread: "&unread=1", questions: "&questions=1" };
const EMPTY_TEXTS = { inbox: "empty", unread: "none_unread", questions: "none_asked" };
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
  const waiting = createElement("section", "notifications-waiting");
  const waitingTitle = createElement("h2", "", localization.text("waiting_for_you"));
  const waitingList = createElement("ul", "notifications-list");
  const waitingLink = dom.createLink("notifications-quiet", "", `${page.inboxUrl}?view=questions`);
  const tabs = Object.keys(TABS).map((name) => {
    const tab = createElement("button", "notifications-tab", localization.text(name));
    tab.addEventListener("click", () => showTab(/** @type {keyof TABS} */ (name)));
    return tab;
  });
  let shownTab = /** @type {keyof TABS} */ ("inbox");
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
  waiting.append(waitingTitle, waitingList, waitingLink);
  panel.append(head, status, waiting, list, note, retryButton, link);
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
    if (!getShownIds().length) showNote(localization.text("loading"));
    load();
  }

  function load() {
    const failed = () => showNote(localization.text("unreadable"), open);
    const loads = [page.loadLatest(LIST_LENGTH + MAX_WAITING, TABS[shownTab])];
    if (page.questions) loads.push(page.loadLatest(MAX_WAITING, TABS.questions));
    Promise.all(loads).then(showLatest, failed);
  }

  /** @param {keyof TABS} name */
  function showTab(name) {
    shownTab = name;
    open();
  }

  function showLatest() {
    renderList();
    markShownSeen();
  }

  /** Show what waits for the user first, and below it the latest of what the tab lists. */
  function renderList() {
    const items = page
      .newerThan(-1)
      .filter((item) => !doneIds.has(item.id))
      .sort((a, b) => b.raised - a.raised);
    const questions = items.filter(rows.isOpenQuestion);
    const first = shownTab === "questions" ? [] : questions.slice(0, MAX_WAITING);
    const latest = items.filter(
      (item) =>
        !first.includes(item) &&
        (shownTab === "inbox" || (shownTab === "unread" ? dom.isUnread(item) : rows.isOpenQuestion(item))),
    );
    fill(waitingList, first);
    fill(list, latest.slice(0, LIST_LENGTH));
    waiting.hidden = !first.length;
    waitingLink.textContent = localization.text("all_questions", { count: page.questions });
    waitingLink.hidden = page.questions <= MAX_WAITING;
    newerButton.hidden = true;
    markAllButton.hidden = !client.unread;
    for (const [index, name] of Object.keys(TABS).entries())
      tabs[index].ariaPressed = String(name === shownTab);
    showNote(first.length || latest.length ? "" : localization.text(EMPTY_TEXTS[shownTab]));
  }

  /**
   * Show notifications in a list. Where it is the same, new rows would take away the keyboard focus.
   * @param {HTMLElement} list
   * @param {Notification[]} items
   */
  function fill(list, items) {
    const shown = readIds(list);
    const ids = items.map((item) => item.id);
    if (ids.slice(0, shown.length).join() === shown.join()) {
      rows.updateRows(list, items);
      list.append(...items.slice(shown.length).map(createRow));
    } else list.replaceChildren(...items.map(createRow));
  }

  /** @param {HTMLElement} list */
  function readIds(list) {
    return [...list.children].map((row) => /** @type {HTMLElement} */ (row).dataset.id ?? "");
  }

  function getShownIds() {
    return [...readIds(waitingList), ...readIds(list)];
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
      if (readIds(list).length < LIST_LENGTH) load();
    }
    const target = next?.querySelector("a") ?? tabs[0];
    if (hadFocus) /** @type {HTMLElement} */ (target).focus();
  }

  /** @param {Change} change */
  function handleChange({ op, notifications }) {
    for (const { id } of notifications) doneIds.delete(id);
    if (!isOpen()) return;
    markAllButton.hidden = !client.unread;
    rows.updateRows(panel, notifications);
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
    return Math.max(0, ...getShownIds().map((id) => client.stream.notifications.get(id)?.raised ?? 0));
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
    waitingList.replaceChildren();
    waiting.hidden = true;
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
