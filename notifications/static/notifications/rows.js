// The rows of notifications in bell, toasts and inbox: how one is drawn, its actions, and what all rows do when they are
// pressed. Loaded with the first of them.

/**
 * @typedef {import("./client.js").Notification} Notification
 * @typedef {import("./notifications.js").Page} Page
 * @typedef {import("./bell_panel.js").Entry} Entry
 * @typedef {(verb: "read"|"archive", row: HTMLElement, entry: Entry) => unknown} Change changes a row, and shows it so
 * @typedef {ReturnType<typeof createRows>} Rows
 */

/**
 * Return the functions that draw the rows of a page, and let its rows be pressed. Called once.
 * @param {Page} page
 * @param {{row_menu: typeof import("./row_menu.js"), row_keys: typeof import("./row_keys.js"), actions: typeof import("./actions.js")}} modules
 */
export function createRows(page, { row_menu, row_keys, actions }) {
  const { dom, icons, localization } = page;
  const { createElement, createLink } = dom;
  document.addEventListener("click", ({ target }) => {
    const opener = /** @type {HTMLElement|null} */ (
      /** @type {Element} */ (target).closest(".notifications-menu")
    );
    if (opener) row_menu.openMenu(opener, page);
  });
  actions.watchActions(page);

  return {
    ...row_keys.connectKeys(page),
    createIcon,
    createSummary,
    createMain,
    createActions,
    createMenuButton,
    createListed,
    updateRows,
    replaceRow,
    updateRow,
    updateGroup,
    isOpenQuestion,
    restoreDone: (/** @type {ParentNode} */ list) => actions.restoreDone(list, page),
    connectFilter,
    findFirstPage,
  };

  /**
   * Return an icon that is drawn with a line.
   * @param {string} path of 24 x 24 units
   */
  function createIcon(path) {
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
   * @param {boolean} [isMarked] whether following it marks it as read
   */
  function createSummary(item, isMarked = true) {
    const summary = createElement("div", "notifications-summary");
    const link = parseLink(page.localizeUrl(item.url), location.origin);
    const title = createLink("notifications-title", item.title, link?.href ?? page.inboxUrl);
    title.dir = "auto";
    if (link?.isExternal) title.rel = "noopener noreferrer";
    // The page leaves for the notification's URL: there is no place for an error.
    const markFollowed = () => isMarked && page.mark("read", [item]).catch(() => undefined);
    title.addEventListener("click", markFollowed);
    title.addEventListener("auxclick", (event) => event.button === 1 && markFollowed());
    summary.append(createDisc(item), title, createSeparator());
    if (item.body) {
      const body = createElement("span", "notifications-body", item.body);
      body.dir = "auto";
      body.append(createSeparator());
      summary.append(body);
    }
    summary.append(createTime(item));
    return summary;
  }

  /**
   * Return the summary of a notification with its actions.
   * @param {Notification} item
   */
  function createMain(item) {
    const main = createElement("div", "notifications-main");
    const actions = createActions(item);
    main.append(createSummary(item), ...(actions ? [actions] : []));
    return main;
  }

  /**
   * Return the links of the actions of a notification, null if it has none. Those that post do so in place, and the
   * choices of a question are answered there; their links lead to the pages that do the same.
   * @param {Notification} item
   * @returns {HTMLElement|null}
   */
  function createActions({ id, title, data }) {
    const items = /** @type {any[]} */ (data.actions);
    if (!Array.isArray(items)) return null;
    const list = createElement("div", "notifications-actions");
    for (const [number, action] of items.entries()) {
      const { label, url, post, danger, sent } = Object(action);
      const target = data.question?.links.page ?? page.getActionUrl(id, number);
      const link = parseLink(post ? target : (url ?? ""), location.origin);
      if (!link || typeof label !== "string") continue;
      const node = createLink("notifications-plainbutton", label, link.href);
      if (link.isExternal) node.rel = "noopener noreferrer";
      node.ariaLabel = `${label}: ${title}`;
      if (post && !sent) node.dataset[data.question ? "answer" : "post"] = post;
      if (danger) {
        node.dataset.danger = danger;
        node.classList.add("notifications-danger");
      }
      list.append(node);
    }
    actions.rememberDone(id, items, page);
    actions.restoreDone(list, page);
    return list.hasChildNodes() ? list : null;
  }

  /**
   * Return the button that shows the verbs of a row where no pointer can hover over it.
   * @param {Notification} item
   */
  function createMenuButton({ title }) {
    const button = createElement("button", "notifications-verb notifications-menu");
    button.ariaHasPopup = "dialog";
    button.ariaLabel = `${localization.text("more")}: ${title}`;
    button.append(createIcon(icons.more));
    return button;
  }

  /**
   * Return the row of a notification, or of a group, in the bell.
   * @param {Entry} entry
   * @param {Change} change
   */
  function createListed(entry, change) {
    const { key, item, group } = entry;
    const row = createElement("li", "notifications-item");
    row.dataset.key = key;
    row.dataset.level = item.level;
    const verbs = createElement("span", "notifications-verbs");
    verbs.append(
      createVerb("read", row, entry, change),
      createVerb("archive", row, entry, change),
      createMenuButton({ ...item, title: group?.title ?? item.title }),
    );
    if (group) row.append(createElement("div", "notifications-main"), verbs);
    else {
      row.dataset.id = item.id;
      row.append(createMain(item), verbs);
      updateRow(row, item);
    }
    updateGroup(row, entry);
    return row;
  }

  /**
   * @param {"read"|"archive"} verb
   * @param {HTMLElement} row
   * @param {Entry} entry
   * @param {Change} change
   */
  function createVerb(verb, row, entry, change) {
    const isRead = verb === "read";
    const button = createElement("button", `notifications-verb${isRead ? " notifications-if-unread" : ""}`);
    button.title = localization.text(verb);
    button.ariaLabel = `${button.title}: ${entry.group?.title ?? entry.item.title}`;
    button.append(createIcon(icons[isRead ? "mail_open" : "success"]));
    button.addEventListener("click", () => change(verb, row, entry));
    return button;
  }

  /**
   * Show in a row what the server says of a group, with the time and the person of its newest notification. The row leads
   * to the page of the group.
   * @param {HTMLElement} row
   * @param {{item: Notification, group?: import("./notifications.js").Group}} entry
   */
  function updateGroup(row, { item, group }) {
    if (!group) return;
    const { key, title, body, level } = group;
    const shown = [item.id, title, body].join();
    dom.updateUnreadMark(row, group.unread, localization);
    row.dataset.level = level;
    if (row.dataset.shown === shown) return;
    row.dataset.shown = shown;
    const url = `${page.inboxUrl}?group=${encodeURIComponent(key)}`;
    const data = { actor: item.data.actor };
    const summary = createSummary({ ...item, title, body, url, level, data, job: null }, false);
    const hadFocus = row.querySelector(".notifications-main")?.contains(document.activeElement);
    row.querySelector(".notifications-main")?.replaceChildren(summary);
    if (hadFocus) summary.querySelector("a")?.focus();
    for (const button of row.querySelectorAll("button"))
      button.ariaLabel = `${button.title || localization.text("more")}: ${title}`;
  }

  /**
   * Show in the rows of a list which notifications are unread, and which questions were answered, by whom.
   * @param {Element} list
   * @param {Notification[]} items
   */
  function updateRows(list, items) {
    for (const item of items) {
      const row = dom.findRow(list, item.id);
      // An open question stays as it is: its buttons may be pressed.
      const main = row?.querySelector("[data-question] .notifications-main");
      if (row) updateRow(row, item);
      if (!main || isOpenQuestion(item)) continue;
      const next = createMain(item);
      const hadFocus = main.contains(document.activeElement);
      // What is below it, as the buttons of the next question, stays where it is until the pointer or the list moves.
      next.style.minHeight = `${/** @type {HTMLElement} */ (main).offsetHeight}px`;
      main.replaceWith(next);
      const release = () => next.style.removeProperty("min-height");
      row?.addEventListener("mouseleave", release, { once: true });
      document.addEventListener("scroll", release, { once: true, capture: true });
      if (hadFocus) next.querySelector("a")?.focus();
    }
  }

  /**
   * @param {HTMLElement} row
   * @param {Notification} item
   */
  function updateRow(row, item) {
    dom.updateUnreadMark(row, dom.isUnread(item), localization);
    row.toggleAttribute("data-question", isOpenQuestion(item));
  }

  /**
   * Show another notification in a row, in its place: what was raised between them is not seen with it.
   * @param {HTMLElement} row
   * @param {Notification} item
   */
  function replaceRow(row, item) {
    const { id = "", raised, place = raised } = row.dataset;
    for (const control of row.querySelectorAll("input, button, a"))
      for (const attribute of control.attributes) attribute.value = attribute.value.replace(id, item.id);
    row.querySelector(".notifications-main")?.replaceWith(createMain(item));
    Object.assign(row.dataset, { place, id: item.id, raised: item.raised, level: item.level });
  }

  /**
   * Return what says whether the inbox, with its filters, lists what arrives, which is no toast while the page is seen.
   * @param {string|null} view
   * @param {AbortSignal} signal aborted when the list is removed
   */
  function connectFilter(view, signal) {
    const isListed = (/** @type {Notification} */ item) => {
      const parameters = new URLSearchParams(location.search);
      const [filters, categories] = [Object.fromEntries(parameters), parameters.getAll("category")];
      if (filters.group || filters.after || filters.before) return false;
      const text = `${item.title} ${item.body}`.toLowerCase();
      return (
        view !== "done" &&
        view !== "snoozed" &&
        (view === "questions" ? isOpenQuestion(item) : view !== "unread" || dom.isUnread(item)) &&
        (!filters.category || categories.includes(item.category) !== Boolean(filters.except)) &&
        (!filters.level || filters.level === item.level) &&
        (filters.q ?? "")
          .toLowerCase()
          .split(/\s+/)
          .every((word) => text.includes(word))
      );
    };
    const isOnScreen = (/** @type {Notification} */ item) =>
      document.visibilityState === "visible" && isListed(item);
    page.openLists.add(isOnScreen);
    signal.addEventListener("abort", () => page.openLists.delete(isOnScreen));
    return isListed;
  }

  /**
   * Return the initials of the person who caused a notification, or its icon, and its level for screen readers.
   * @param {Notification} item
   */
  function createDisc({ level, job, data }) {
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

  /** @param {Notification} item */
  function createTime({ created_at }) {
    const node = createElement("span", "notifications-time");
    const time = createElement("time");
    time.dateTime = created_at;
    time.dataset.relative = "";
    node.append(time);
    dom.updateTimes(node, localization);
    return node;
  }

  /** Return a hidden full stop: the parts are on lines of their own, but a screen reader would run them together. */
  function createSeparator() {
    return createElement("span", "notifications-hidden", ". ");
  }
}

/** @param {Notification} item */
function isOpenQuestion({ data }) {
  return data.question?.ended === null;
}

/** Return the address of the first page of the inbox, with its view and filters. */
function findFirstPage() {
  const parameters = new URLSearchParams(location.search);
  for (const name of ["after", "before", "changed", "selected"]) parameters.delete(name);
  return `${location.pathname}?${parameters}`;
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
