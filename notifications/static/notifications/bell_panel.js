// The panel of the bell: the latest notifications, those that are unread, and what can be done with each.

/**
 * @typedef {import("./client.js").Notification} Notification
 * @typedef {import("./client.js").Change} Change
 * @typedef {import("./notifications.js").Page} Page
 * @typedef {import("./notifications.js").Group} Group
 * @typedef {{key: string, item: Notification, group?: Group, row?: HTMLElement, undos?: object[]}} Entry a notification, or a
 *   group with its newest one, and what undoes its last change
 */

const LIST_LENGTH = 8;
const MAX_WAITING = 3; // Open questions above the list.
/** The queries of the tabs, by the names of their texts. */
const TABS = { inbox: "", unread: "&unread=1", questions: "&questions=1" };
const EMPTY_TEXTS = { inbox: "empty", unread: "none_unread", questions: "none_asked" };
const REFRESH_DELAY_MS = 300; // Changes within it are followed by one request for the groups.
/** @type {import("./notifications.js").LatestPage} */
const NOTHING = { items: [], groups: {}, seq: 0 };

/**
 * @param {HTMLElement} panel which is empty
 * @param {Page} page
 * @param {AbortSignal} signal aborted when the bell is removed
 */
export function connectPanel(panel, page, signal) {
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
  /** What was done in the open list, by key. It stays in its place, also where it was undone. */
  const kept = /** @type {Map<string, Entry & {row: HTMLElement}>} */ (new Map());
  let shownState = /** @type {string|null} */ (null);
  /** What *Try again* does. */
  let retry = /** @type {() => unknown} */ (open);

  status.role = "status";
  markAllButton.title = localization.text("read_all");
  markAllButton.append(rows.createIcon(page.icons.mail_open), createElement("span", "", markAllButton.title));
  markAllButton.addEventListener("click", markAllRead);
  newerButton.addEventListener("click", () => showTab(shownTab));
  retryButton.addEventListener("click", () => retry());
  head.append(...tabs, newerButton, markAllButton);
  waiting.append(waitingTitle, waitingList, waitingLink);
  panel.append(head, status, waiting, latestTitle, list, note, retryButton, link);
  panel.addEventListener("beforetoggle", (event) => event.newState === "open" && showTab("inbox"));
  for (const stop of [
    client.on("change", handleChange),
    client.on("state", showState),
    page.onOutage(showState),
    () => page.openLists.delete(isListed),
  ])
    signal.addEventListener("abort", stop);
  page.openLists.add(isListed);
  showState();

  function open(/** @type {string} */ mark = "") {
    if (client.state === "signed_out") return;
    renderList();
    if (!shownItems.length) showNote(localization.text("loading"));
    load(mark);
  }

  /** Show the latest notifications of the server, in groups; if it cannot be reached, those that the page knows. */
  async function load(/** @type {string} */ mark) {
    const tab = shownTab;
    const isStale = () => tab !== shownTab || client.state === "signed_out";
    const loads = [page.loadLatest(LIST_LENGTH + MAX_WAITING, `&grouped=1${TABS[tab]}${mark}`)];
    if (page.questions) loads.push(page.loadLatest(MAX_WAITING, TABS.questions + mark));
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
    dropDone();
    for (const row of waitingList.querySelectorAll("li:not([data-question])")) row.remove();
    if (name !== shownTab) listed = null;
    shownTab = name;
    open();
  }

  /** Show what waits for the user first, with what is answered meanwhile, and below it the latest of what the tab lists. */
  function renderList() {
    const questions = readKnown()
      .filter((item) => rows.isOpenQuestion(item) || dom.findRow(waitingList, item.id))
      .map((item) => ({ key: item.id, item }));
    const kept = shownTab === "questions" ? [] : withKept(waitingList, questions);
    const first = kept.slice(0, matchMedia("(width < 30rem)").matches ? 2 : MAX_WAITING); // Three fill a phone.
    const { items, groups } = listed ?? NOTHING;
    const listable = items
      .map((item) => ({ key: findKey(item), item: findKnown(item), group: groups[item.id] }))
      .filter(({ key, item, group }) => {
        if (group) return shownTab !== "unread" || group.unread;
        if (item.archived_at !== null || first.some((entry) => entry.key === key)) return false;
        return (
          shownTab === "inbox" || (shownTab === "unread" ? dom.isUnread(item) : rows.isOpenQuestion(item))
        );
      });
    const latest = withKept(list, listable).slice(0, LIST_LENGTH);
    fill(waitingList, first);
    fill(list, latest);
    shownItems = [...first, ...latest].map(({ item }) => item);
    waiting.hidden = !first.length;
    latestTitle.hidden = !first.length || !latest.length;
    waitingLink.textContent = localization.text("all_questions", { count: page.questions });
    waitingLink.hidden = kept.length <= first.length && page.questions <= MAX_WAITING;
    newerButton.hidden = true;
    markAllButton.hidden = !client.unread;
    for (const [index, name] of Object.keys(TABS).entries())
      tabs[index].ariaPressed = String(name === shownTab);
    showNote(first.length || latest.length ? "" : localization.text(EMPTY_TEXTS[shownTab]));
  }

  /** @param {Notification} item */
  function findKnown(item) {
    return client.stream.notifications.get(item.id) ?? item;
  }

  /** @param {Notification} item */
  function findKey({ id }) {
    return listed?.groups[id]?.key ?? id;
  }

  /**
   * Return the entries of a list with what was done in it, each below the row that it was below.
   * @param {HTMLElement} list
   * @param {Entry[]} entries
   */
  function withKept(list, entries) {
    const all = entries.filter(({ key }) => !kept.has(key));
    let end = 0;
    for (const { dataset } of readRows(list)) {
      const entry = kept.get(dataset.key ?? "");
      if (entry) all.splice(end++, 0, { ...entry, item: findKnown(entry.item) });
      else end = all.findIndex(({ key }) => key === dataset.key) + 1 || end;
    }
    return all;
  }

  /** Remove the rows that are done. */
  function dropDone() {
    for (const [done, { row }] of kept) {
      if (!row.querySelector(".notifications-done")) continue;
      row.remove();
      if (listed) listed.items = listed.items.filter((item) => findKey(item) !== done);
    }
    kept.clear();
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

  /** @param {Entry} entry */
  function createRow(entry) {
    return entry.row ?? rows.createListed(entry, change);
  }

  /** @param {HTMLElement} list */
  function readRows(list) {
    return /** @type {HTMLElement[]} */ ([...list.children]);
  }

  /**
   * Mark a row as read, or show in its place that it is done, or show it again. The focus stays in it.
   * @param {"read"|"archive"|"unarchive"} verb
   * @param {HTMLElement} row
   * @param {Entry} entry
   * @returns {Promise<void>}
   */
  async function change(verb, row, entry) {
    if (verb === "archive") kept.set(entry.key, { ...entry, row }); // The list may be loaded before the response.
    try {
      await (entry.group ? page.markGroup(verb, entry, listed?.seq ?? 0) : page.mark(verb, [entry.item]));
    } catch (error) {
      if (verb === "archive") kept.delete(entry.key);
      return showNote(page.describe(error), () => change(verb, row, entry));
    }
    showNote("");
    const hadFocus = row.contains(document.activeElement);
    if (verb === "read") dom.updateUnreadMark(row, false, localization);
    else row.querySelector(".notifications-done")?.remove();
    const target = verb === "archive" ? showDone(row, entry) : row.querySelector("a");
    row.toggleAttribute("data-done", verb === "archive"); // It hides what else is in the row.
    if (hadFocus) target?.focus();
  }

  /**
   * Show in a row, as high as it was, that it is done, with *Undo*.
   * @param {HTMLElement} row
   * @param {Entry} entry
   */
  function showDone(row, entry) {
    const { item, group } = entry;
    const count = group ? `${group.count}${group.more ? "+" : ""}` : "1";
    const line = createElement("div", "notifications-done", localization.text("did_archive", { count }));
    const undo = createElement("button", "notifications-quiet", localization.text("undo"));
    const main = /** @type {HTMLElement} */ (row.querySelector(".notifications-main"));
    line.style.minHeight = `${main.offsetHeight}px`;
    undo.ariaLabel = `${undo.textContent}: ${(group ?? item).title}`;
    undo.addEventListener("click", () => change("unarchive", row, entry));
    line.append(undo);
    row.append(line);
    return undo;
  }

  /** @param {Change} change */
  function handleChange({ op, notifications }) {
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
    } catch (error) {
      return showNote(page.describe(error), markAllRead);
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
    if (!state && isOpen() && !retryButton.hidden) open("&background=1"); // The server is back.
    if (!isSignedOut) return;
    status.append(" ", page.createSignInLink());
    dropDone();
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
}
