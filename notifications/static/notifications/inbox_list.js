// The list of the inbox beyond its first page: older rows are added below, groups are opened, and views have their counts.

/**
 * @typedef {import("./notifications.js").Page} Page
 * @typedef {{getShown: () => HTMLElement[], focusRow: (row: HTMLElement|undefined) => void,
 *   showMessage: (text: string, retry?: () => unknown) => void, getLastSave: () => Promise<unknown>,
 *   getCurrent: () => HTMLElement|undefined}} List the row in the pane is the current one
 */

const VIEWS_DELAY_MS = 1_000;
const SNOOZE_MS = 3 * 3_600_000; // The shortest of the times in the dialog.
const LOAD_MARGIN = "800px"; // Older rows are loaded when the end of the list is this far below the window.

/**
 * Load older rows when the end of the list comes into view, or by its link, and return to the row that was followed.
 * @param {HTMLElement} inbox
 * @param {Page} page
 * @param {AbortSignal} signal aborted when the element is removed
 * @param {List} list
 * @param {typeof import("./inbox_rows.js")} inbox_rows
 */
export function connectList(
  inbox,
  { client, dom, jobs, localization, rows, shownIds },
  signal,
  { getShown, focusRow, showMessage, getLastSave, getCurrent },
  inbox_rows,
) {
  const { findBox, withMembers } = inbox_rows;
  /** Whether the next rows that are loaded get the focus: the row that had it has left, and was the last one. */
  let needsFocus = false;
  let isUpdatePlanned = false;
  /** The rows of the groups that are open. */
  const openGroups = /** @type {Set<HTMLElement>} */ (new Set());
  /** Whether the list has no rows, no older page and no focus: nothing is being read or typed, so it is loaded again. */
  const isEmpty = () => !inbox.querySelector("section, [data-end], :focus");
  const findEnd = () => /** @type {HTMLElement|null} */ (inbox.querySelector("[data-end]"));
  const observer = new IntersectionObserver(
    (entries) => {
      // After a slow frame there are several, such as "not in view" and "in view": the last one is of now.
      const { isIntersecting, target } = entries[entries.length - 1];
      if (isIntersecting) void loadOlder(/** @type {HTMLElement} */ (target));
    },
    { rootMargin: LOAD_MARGIN },
  );
  signal.addEventListener("abort", () => observer.disconnect());
  inbox.addEventListener("click", handleClick, { signal });
  dom.updateTimes(inbox, localization);
  rows.restoreDone(inbox);
  showView();
  observeEnd();
  void returnToRow();

  return {
    /** @param {HTMLElement|undefined} row */
    focusWhenLoaded(row) {
      needsFocus = !row;
      focusRow(row);
    },

    loadPage,
    sendForm,
    updateViews,

    /** Return what is changed with all: the rows that are not newer than the list, and its end, below which are others. */
    getParts(/** @type {number} */ newest) {
      /** @type {NodeListOf<HTMLElement>} */
      const parts = inbox.querySelectorAll("li:not([hidden]), [data-end]");
      return [...parts].filter(({ dataset }) => !(Number(dataset.raised) > newest));
    },

    /** @param {import("./client.js").Notification[]} items that are newer than the list, but for what the pane shows */
    offerNewer(items) {
      const count = items.filter(
        ({ id, raised }) => !shownIds.has(id) && dom.findRow(inbox, id)?.dataset.raised !== `${raised}`,
      ).length;
      if (!count || isEmpty()) return;
      const bar = inbox.querySelector(".notifications-toolbar");
      const text = localization.text("new", { count });
      const link = inbox.querySelector(".notifications-news");
      const news = link ?? dom.createLink("notifications-news", text, rows.findFirstPage());
      news.textContent = text;
      if (link) return;
      // The style sheet has the bar at the lower edge of a touch screen.
      if (bar && matchMedia("(pointer: coarse)").matches) bar.before(news);
      else (bar ?? inbox).append(news);
    },

    /** Show the counts of the views when something has arrived: at most once a second, and while the page is seen. */
    updateViewsSoon() {
      if (isUpdatePlanned) return;
      isUpdatePlanned = true;
      setTimeout(() => {
        isUpdatePlanned = false;
        if (document.visibilityState === "visible") void updateViews();
        else document.addEventListener("visibilitychange", updateViews, { once: true, signal });
      }, VIEWS_DELAY_MS);
    },
  };

  /**
   * Send a form as the page without a script does.
   * @param {string} url
   * @param {FormData} body
   * @returns {Promise<Iterable<Element>>} what the next page says, and its form that undoes the change, if there is one
   */
  async function sendForm(url, body) {
    body.set("part", "message");
    const { location } = /** @type {{location: string}} */ (await jobs.sendForm(url, body));
    const answer = await loadPage(location, ".notifications-message");
    client.refresh();
    return answer.children;
  }

  /** Show the counts of the views after a change, the groups that are open or in the pane, and the rows if there were none. */
  async function updateViews() {
    const groups = new Set(openGroups);
    const current = getCurrent();
    if (current?.hasAttribute("data-group")) groups.add(current);
    for (const group of groups.size ? groups : [null]) {
      const url = new URL(group?.querySelector("a")?.href ?? location.href);
      url.search += "&part=views&background=1"; // A part of the page, for which no person has asked.
      const save = getLastSave();
      await save;
      try {
        const views = await loadPage(url, ".notifications-views");
        const next = /** @type {HTMLElement|null} */ (views.nextElementSibling);
        document.querySelector(".notifications-views")?.replaceChildren(...views.childNodes); // It stays scrolled.
        // Not of before a change, such as an undo that has shown the row: to hide it again would take its focus.
        if (group && save === getLastSave()) replaceGroup(group, next);
        else if (isEmpty()) inbox.replaceWith(await loadPage(url.href.replace("part=views&", "")));
      } catch {
        // They are those of before, until the next change.
      }
    }
  }

  /**
   * @param {HTMLElement} group
   * @param {HTMLElement|null} next null if nothing is left of it
   */
  function replaceGroup(group, next) {
    // Its own row, and that with the link to older ones.
    for (const row of withMembers(group)) if (!row.dataset.id) row.hidden = !next;
    if (!next) return;
    Object.assign(group.dataset, next.dataset);
    dom.updateUnreadMark(group, next.hasAttribute("data-unread"), localization);
    // Not the link and the buttons, of which one may have the focus.
    const [shown, loaded] = [group, next].map((row) => [
      .../** @type {Element} */ (row.querySelector(".notifications-summary")).children,
    ]);
    const [box, loadedBox] = [group, next].map(findBox);
    if (box && loadedBox) box.value = loadedBox.value;
    for (const part of shown) part.replaceChildren(.../** @type {Element} */ (loaded.shift()).childNodes);
    dom.updateTimes(group, localization);
  }

  /** Scroll the views, of which a phone has no room for all, to that of the page. */
  function showView() {
    const view = document.querySelector(".notifications-views [aria-current]");
    view?.parentElement?.scrollBy(view.getBoundingClientRect().x - innerWidth / 2, 0);
  }

  /** A search that has found too little is continued by its link only: it may read the whole inbox. */
  function observeEnd() {
    observer.disconnect();
    const end = findEnd();
    if (end && !end.querySelector(".notifications-note")) observer.observe(end);
  }

  /** @param {MouseEvent} event */
  function handleClick(event) {
    const target = /** @type {Element} */ (event.target);
    const link = /** @type {HTMLAnchorElement|null} */ (
      target.closest("a[aria-expanded], [rel=next], [data-snooze]")
    );
    if (!link || event.ctrlKey || event.metaKey) return;
    event.preventDefault();
    const { snooze } = link.dataset;
    if (snooze !== undefined) return showTimes(snooze);
    const row = link.closest("li");
    if (row?.ariaBusy) return;
    if (row) return void (link.ariaExpanded ? toggleGroup(row, link) : addMembers(row, link));
    needsFocus = true;
    const end = findEnd();
    if (end) void loadOlder(end);
  }

  /**
   * Open the dialog with the times until which rows can be snoozed. Not each browser knows its command.
   * @param {string} id of the row, "" for those that are selected
   */
  function showTimes(id) {
    const dialog = /** @type {HTMLDialogElement} */ (inbox.querySelector("#notifications-snoozing"));
    const inHours = localization.time.format(Date.now() + SNOOZE_MS);
    /** @type {Element} */ (dialog.querySelector("time")).textContent = `, ${inHours}`;
    const buttons = /** @type {NodeListOf<HTMLButtonElement>} */ (dialog.querySelectorAll("[name=until]"));
    for (const button of buttons) button.value = button.value.replace(/\..*|$/, id && `.${id}`);
    dialog.showModal();
  }

  /**
   * Show the rows of a group below its own, or remove them.
   * @param {HTMLElement} group
   * @param {HTMLAnchorElement} link to the page that lists them
   */
  async function toggleGroup(group, link) {
    const isOpen = link.ariaExpanded === "true";
    link.ariaExpanded = String(!isOpen);
    openGroups.delete(group);
    if (isOpen) for (const row of withMembers(group).slice(1)) row.remove();
    else {
      const isAdded = await addMembers(group, link);
      link.ariaExpanded = String(isAdded);
      if (isAdded) openGroups.add(group);
      void updateViews(); // Its row is of when the page was loaded, and some may have arrived since.
    }
  }

  /**
   * Add rows of a group.
   * @param {HTMLElement} row the one above them, or in their place, with the link to older ones
   * @param {HTMLAnchorElement} link to the page that lists them
   */
  function addMembers(row, link) {
    return load(row, link, (page) => {
      const loaded = /** @type {HTMLElement[]} */ ([...page.querySelectorAll("li[data-id]")]);
      // Failures are shown already, above the others.
      const rows = loaded.filter(({ dataset }) => !dom.findRow(inbox, dataset.id ?? ""));
      const older = page.querySelector("[rel=next]");
      if (older) {
        const end = dom.createElement("li", "notifications-item");
        end.append(older);
        rows.push(end);
      }
      for (const member of rows) member.dataset.member = row.dataset.group ?? row.dataset.member;
      row.after(...rows);
      if (!link.rel) return;
      row.remove();
      focusRow(rows[0]);
    });
  }

  /**
   * Add the rows of the next page below those that are shown.
   * @param {HTMLElement} end of the list, with the link to that page
   * @returns {Promise<boolean>} whether they were added
   */
  async function loadOlder(end) {
    const link = /** @type {HTMLAnchorElement|null} */ (end.querySelector("[rel=next]"));
    if (!link || end.ariaBusy) return false;
    return load(end, link, (older) => {
      if (end.hidden) return; // They are changed with all others meanwhile.
      if (!inbox.querySelector("section")) {
        inbox.replaceWith(older);
        return focusRow(older.querySelector("li") ?? undefined);
      }
      const shown = new Set(getShown().map(({ dataset }) => dataset.id ?? "")); // Above the list: what waits, or has failed.
      for (const row of older.querySelectorAll("li")) if (shown.has(row.dataset.id ?? " ")) row.remove();
      const [first] = older.querySelectorAll("li");
      inbox_rows.addDays(inbox, [...older.querySelectorAll("section")]);
      const nextEnd = older.querySelector("[data-end]");
      if (nextEnd) end.replaceWith(nextEnd);
      else end.remove();
      if (needsFocus && first) {
        needsFocus = false;
        focusRow(first);
      }
      observeEnd();
    });
  }

  /**
   * Load the page of a link, and add what it lists. Return whether it was added.
   * @param {HTMLElement} row which is busy meanwhile
   * @param {HTMLAnchorElement} link
   * @param {(page: HTMLElement) => void} add
   */
  async function load(row, link, add) {
    const problem = localization.text("unreadable");
    row.ariaBusy = "true";
    try {
      const page = await loadPage(link.href);
      const loaded = page.querySelectorAll("li"); // Not the whole list again, which may be long.
      add(page);
      for (const row of loaded) dom.updateTimes(row, localization);
      rows.restoreDone(inbox);
      if (inbox.querySelector("[data-unsaved]")?.textContent?.startsWith(problem)) showMessage("");
      return true;
    } catch {
      showMessage(problem, () => link.click());
      return false;
    } finally {
      row.ariaBusy = null;
    }
  }

  /** Give the focus to the row that was followed, or to the one in its place, after the page was left and loaded again. */
  async function returnToRow() {
    const { notificationsRow: raised, ...state } = history.state ?? {};
    if (!raised) return;
    history.replaceState(state, "");
    for (;;) {
      const shown = getShown();
      const row =
        shown.find(({ dataset }) => Number(dataset.raised) === raised) ??
        shown.find((row) => Number(row.dataset.raised) < raised && !row.closest("[data-first]"));
      const end = findEnd();
      if (row || !end || signal.aborted || !(await loadOlder(end))) return focusRow(row);
    }
  }
}

// Return an element of a page of the app, or reject. The browser parses it: trusted types let no script parse a text.
/** @type {(url: string|URL, selector?: string) => Promise<HTMLElement>} */
function loadPage(url, selector = "notifications-inbox") {
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    request.open("GET", url);
    request.responseType = "document";
    request.onreadystatechange = () => request.status === 200 || request.abort(); // An error is not parsed.
    request.onloadend = () => {
      const found = /** @type {HTMLElement|null|undefined} */ (request.responseXML?.querySelector(selector));
      if (found) resolve(found);
      else reject(new TypeError("There is no such page."));
    };
    request.send();
  });
}
