// The panel of the bell: the latest notifications, those that are unread, and what can be done with each.

/**
 * @typedef {import("./client.js").Notification} Notification
 * @typedef {import("./client.js").Change} Change
 * @typedef {import("./notifications.js").Page} Page
 * @typedef {import("./notifications.js").Group} Group
 * @typedef {{key: string, item: Notification, group?: Group}} Entry a notification, or a group with its newest one
 */

const LIST_LENGTH = 8;
/** Open questions above the list. */
const MAX_WAITING = 3;
/** The queries of the tabs, by the names of their texts. */
const TABS = { inbox: "", unread: "&unread=1", questions: "&questions=1" };
const EMPTY_TEXTS = { inbox: "empty", unread: "none_unread", questions: "none_asked" };
/** Changes within this time are followed by one request for the groups. */
const REFRESH_DELAY_MS = 300;
const PANEL_MARGIN_PX = 8;
/** @type {import("./notifications.js").LatestPage} */
const NOTHING = { items: [], groups: {}, seq: 0 };

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
  const markAllButton = createElement("button", "notifications-quiet");
  const newerButton = createElement("button", "notifications-news");
  const list = createElement("ul", "notifications-list");
  const note = createElement("p", "notifications-note");
  const retryButton = createElement("button", "notifications-quiet", localization.text("again"));
  const status = createElement("p", "notifications-status");
  const link = dom.createLink("notifications-foot", localization.text("see_all"), page.inboxUrl);
  const waiting = createElement("section", "notifications-waiting");
  const waitingTitle = createElement("h2", "", localization.text("waiting_for_you"));
  const latestTitle = createElement("h2", "", localization.text("latest"));
  const waitingList = createElement("ul", "notifications-list");
  const waitingLink = dom.createLink("notifications-quiet", "", `${page.inboxUrl}?view=questions`);
  const tabs = Object.keys(TABS).map((name) => {
    const tab = createElement("button", "notifications-tab", localization.text(name));
    tab.addEventListener("click", () => showTab(/** @type {keyof TABS} */ (name)));
    return tab;
  });
  let shownTab = /** @type {keyof TABS} */ ("inbox");
  /** What the server lists in the shown tab. */
  let listed = /** @type {import("./notifications.js").LatestPage|null} */ (null);
  let shownItems = /** @type {Notification[]} */ ([]);
  let refreshTimer = /** @type {any} */ (null);
  /** Ids of the notifications, and keys of the groups, that are done, before the frame says so. */
  const doneKeys = new Set();
  let shownState = /** @type {string|null} */ (null);
  /** What *Try again* does. */
  let retry = /** @type {() => unknown} */ (open);

  status.role = "status";
  markAllButton.title = localization.text("read_all");
  markAllButton.append(rows.createIcon(page.icons.mail_open), createElement("span", "", markAllButton.title));
  markAllButton.addEventListener("click", markAllRead);
  newerButton.addEventListener("click", () => load());
  retryButton.addEventListener("click", () => retry());
  head.append(...tabs, newerButton, markAllButton);
  waiting.append(waitingTitle, waitingList, waitingLink);
  panel.append(head, status, waiting, latestTitle, list, note, retryButton, link);
  panel.addEventListener("beforetoggle", (event) => event.newState === "open" && showTab("inbox"));
  panel.addEventListener("toggle", placePanel);
  addEventListener("resize", placePanel, { signal });
  for (const stop of [
    client.on("change", handleChange),
    client.on("state", showState),
    page.onOutage(showState),
    () => page.openLists.delete(isListed),
  ])
    signal.addEventListener("abort", stop);
  page.openLists.add(isListed);
  showState();

  function open() {
    if (client.state === "signed_out") return;
    for (const row of waitingList.querySelectorAll("li:not([data-question])")) row.remove();
    renderList();
    if (!shownItems.length) showNote(localization.text("loading"));
    load();
  }

  /** Show the latest notifications of the server, in groups; if it cannot be reached, those that the page knows. */
  async function load() {
    const tab = shownTab;
    const isStale = () => tab !== shownTab || client.state === "signed_out";
    const loads = [page.loadLatest(LIST_LENGTH + MAX_WAITING, `&grouped=1${TABS[tab]}`)];
    if (page.questions) loads.push(page.loadLatest(MAX_WAITING, TABS.questions));
    try {
      const [latest] = await Promise.all(loads);
      if (isStale()) return;
      listed = latest;
      renderList();
      markShownSeen();
    } catch {
      if (isStale()) return;
      listed ??= { items: readKnown(), groups: {}, seq: 0 };
      renderList();
      showNote(localization.text("unreadable"), open);
    }
  }

  /** Read how many notifications the groups have now: what has changed may be in one. What is new waits for the button. */
  function refreshGroups() {
    if (!listed || !Object.keys(listed.groups).length) return;
    page.clock.clearTimeout(refreshTimer);
    refreshTimer = page.clock.setTimeout(async () => {
      if (!isOpen()) return; // What is merged is no toast any more.
      const tab = shownTab;
      const query = `&grouped=1${TABS[tab]}&background=1`;
      const latest = await page.loadLatest(LIST_LENGTH + MAX_WAITING, query).catch(() => null);
      // Not after a response to a later request.
      if (!latest || !listed || latest.seq < listed.seq || tab !== shownTab || !isOpen()) return;
      const isNew = !newerButton.hidden;
      if (isNew) {
        const groups = new Map(Object.values(latest.groups).map((group) => [group.key, group]));
        for (const [id, group] of Object.entries(listed.groups))
          listed.groups[id] = groups.get(group.key) ?? group;
      } else listed = latest;
      renderList();
      newerButton.hidden = !isNew;
    }, REFRESH_DELAY_MS);
  }

  /** Return the notifications outside the archive that the page knows, newest first. */
  function readKnown() {
    return page.newerThan(-1).sort((a, b) => b.raised - a.raised);
  }

  /** @param {keyof TABS} name */
  function showTab(name) {
    if (name !== shownTab) listed = null;
    shownTab = name;
    open();
  }

  /** Show what waits for the user first, with what is answered meanwhile, and below it the latest of what the tab lists. */
  function renderList() {
    const known = readKnown().filter(({ id }) => !doneKeys.has(id));
    const questions = known.filter((item) => rows.isOpenQuestion(item) || dom.findRow(waitingList, item.id));
    const first = shownTab === "questions" ? [] : questions.slice(0, MAX_WAITING);
    const { items, groups } = listed ?? NOTHING;
    const latest = items
      .map((item) => {
        const known = client.stream.notifications.get(item.id) ?? item;
        const group = groups[item.id];
        return { key: group?.key ?? item.id, item: known, group };
      })
      .filter(({ key, item, group }) => {
        if (doneKeys.has(key)) return false;
        if (group) return shownTab !== "unread" || group.unread;
        if (item.archived_at !== null || first.some(({ id }) => id === item.id)) return false;
        return (
          shownTab === "inbox" || (shownTab === "unread" ? dom.isUnread(item) : rows.isOpenQuestion(item))
        );
      })
      .slice(0, LIST_LENGTH);
    const asked = first.map((item) => ({ key: item.id, item }));
    fill(waitingList, asked);
    fill(list, latest);
    shownItems = [...first, ...latest.map(({ item }) => item)];
    waiting.hidden = !first.length;
    latestTitle.hidden = !first.length || !latest.length;
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
   * @param {Entry[]} entries
   */
  function fill(list, entries) {
    const keys = entries.map(({ key }) => key);
    for (const row of readRows(list)) if (!keys.includes(row.dataset.key ?? "")) row.remove();
    const known = readRows(list);
    if (known.every((row, index) => row.dataset.key === keys[index])) {
      const items = entries.map(({ item }) => item);
      rows.updateRows(list, items);
      for (const [index, row] of known.entries()) rows.updateGroup(row, entries[index]);
      list.append(...entries.slice(known.length).map(createRow));
    } else list.replaceChildren(...entries.map(createRow));
  }

  /** @param {HTMLElement} list */
  function readRows(list) {
    return /** @type {HTMLElement[]} */ ([...list.children]);
  }

  /** @param {Entry} entry */
  function createRow(entry) {
    const { key, item, group } = entry;
    const row = createElement("li", "notifications-item");
    row.dataset.key = key;
    row.dataset.level = item.level;
    const verbs = createElement("span", "notifications-verbs");
    verbs.append(
      createVerb("read", row, entry),
      createVerb("archive", row, entry),
      rows.createMenuButton({ ...item, title: group?.title ?? item.title }),
    );
    if (group) row.append(createElement("div", "notifications-main"), verbs);
    else {
      row.dataset.id = item.id;
      row.append(rows.createMain(item), verbs);
      rows.updateRow(row, item);
    }
    rows.updateGroup(row, entry);
    return row;
  }

  /**
   * @param {"read"|"archive"} verb
   * @param {HTMLElement} row
   * @param {Entry} entry
   */
  function createVerb(verb, row, entry) {
    const isRead = verb === "read";
    const button = createElement("button", `notifications-verb${isRead ? " notifications-if-unread" : ""}`);
    button.title = localization.text(verb);
    button.ariaLabel = `${button.title}: ${entry.group?.title ?? entry.item.title}`;
    button.append(rows.createIcon(page.icons[isRead ? "mail_open" : "success"]));
    button.addEventListener("click", () => change(verb, row, entry));
    return button;
  }

  /**
   * Mark a row as read, or take it from the list, which is filled up again. The focus stays in the list.
   * @param {"read"|"archive"} verb
   * @param {HTMLElement} row
   * @param {Entry} entry
   * @returns {Promise<void>}
   */
  async function change(verb, row, entry) {
    const { key, item, group } = entry;
    try {
      await (group ? page.markGroup(verb, key, listed?.seq ?? 0) : page.mark(verb, [item]));
    } catch {
      return showNote(localization.text("unsaved"), () => change(verb, row, entry));
    }
    showNote("");
    const hadFocus = row.contains(document.activeElement);
    const next = verb === "read" ? row : (row.nextElementSibling ?? row.previousElementSibling);
    if (verb === "read") dom.updateUnreadMark(row, false, localization);
    else {
      doneKeys.add(key);
      if (listed) listed.items = listed.items.filter(({ id }) => key !== (listed?.groups[id]?.key ?? id));
      row.remove();
      if (list.children.length < LIST_LENGTH) load().then(() => doneKeys.delete(key));
    }
    const target = next?.querySelector("a") ?? tabs[0];
    if (hadFocus) /** @type {HTMLElement} */ (target).focus();
  }

  /** @param {Change} change */
  function handleChange({ op, notifications }) {
    for (const { id } of notifications) doneKeys.delete(id);
    if (!isOpen()) return;
    markAllButton.hidden = !client.unread;
    rows.updateRows(panel, notifications);
    // A jobs frame brings no notifications: those that loadLatest() merges are rendered when it has ended.
    if (op === "jobs") return;
    refreshGroups();
    // The list may have been loaded before the frame that counts its newest row.
    markShownSeen();
    const count = page.newerThan(newestShown()).filter(isListed).length;
    if (!count) return;
    newerButton.textContent = localization.text("new", { count });
    newerButton.hidden = false;
  }

  function isOpen() {
    return panel.matches(":popover-open");
  }

  /** @param {Notification} item one that arrives */
  function isListed(item) {
    return isOpen() && (shownTab !== "questions" || rows.isOpenQuestion(item));
  }

  /** Return the greatest `raised` in the list. */
  function newestShown() {
    return Math.max(0, ...shownItems.map((item) => item.raised));
  }

  function markShownSeen() {
    // Among the questions there are not the other notifications before the newest one.
    if (isOpen() && shownTab !== "questions") void page.markSeen(newestShown());
  }

  /** @returns {Promise<void>} */
  async function markAllRead() {
    try {
      await page.markReadUpTo(Math.max(0, ...readKnown().map((item) => item.raised)));
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
    listed = null;
    renderList();
  }

  /**
   * @param {string} text
   * @param {() => unknown} [again] what is done again, because the server could not be reached
   */
  function showNote(text, again) {
    note.textContent = client.state === "signed_out" ? "" : text; // Then the status says it.
    note.hidden = !note.textContent;
    retryButton.hidden = note.hidden || !again;
    retry = again ?? open;
    status.hidden = !retryButton.hidden; // An outage is shown once.
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
