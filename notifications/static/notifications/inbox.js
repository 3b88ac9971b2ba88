// <notifications-inbox>: keeps the rendered list up to date without moving its rows, and sends its forms in place.

/**
 * @typedef {import("./client.js").Change} Change
 * @typedef {import("./notifications.js").Page} Page
 * @typedef {import("./notifications.js").Verb} Verb
 * @typedef {(rows: HTMLElement[]) => Promise<Iterable<Element>|void>} Save changes rows on the server. Returns what `sendForm` does,
 *   if it sends a form of the page
 */

/** @type {(verb: string) => Verb} returns the verb that undoes a verb, such as "unread" of "read" */
const invert = (verb) => /** @type {Verb} */ (verb.startsWith("un") ? verb.slice(2) : `un${verb}`);

/**
 * @param {HTMLElement} inbox
 * @param {Page} page
 * @param {AbortSignal} signal aborted when the element is removed
 * @param {{inbox_list: typeof import("./inbox_list.js"), inbox_rows: typeof import("./inbox_rows.js"), inbox_search: typeof import("./inbox_search.js"),
 *   inbox_state: typeof import("./inbox_state.js")}} modules
 */
export function connectElement(inbox, page, signal, modules) {
  const { inbox_list, inbox_rows, inbox_search, inbox_state } = modules;
  const { client, localization, dom, rows } = page;
  const { findBox, isGroup, nameRows, toItem, withMembers } = inbox_rows;
  /** The greatest `raised` of the rendered list. */
  const newest = Number(inbox.getAttribute("newest"));
  const view = inbox.getAttribute("view");
  const isDone = view === "done" || view === "snoozed";
  /** Says what has changed, with a button to undo it. */
  const message = dom.createElement("div", "notifications-message notifications-floating");
  let lastSave = /** @type {Promise<unknown>} */ (Promise.resolve());
  const getLastSave = () => lastSave;
  /** Start the changes that wait for others. All are sent when the page is left: after that they would be lost. */
  const waiting = /** @type {Set<() => void>} */ (new Set());

  message.role = "status";
  inbox.append(message);
  const { getSelectedRows, select } = inbox_state.connectState(inbox, signal, page, inbox_rows);
  inbox.addEventListener("click", handleClick, { signal });
  inbox.addEventListener("submit", handleSubmit, { signal });
  document.addEventListener("visibilitychange", markShownSeen, { signal });
  addEventListener("pagehide", () => waiting.forEach((start) => void start()), { signal });
  const stops = [client.on("change", handleChange), client.on("state", handleState), () => message.remove()];
  for (const stop of stops) signal.addEventListener("abort", stop);
  const list = inbox_list.connectList(
    inbox,
    page,
    signal,
    {
      getShown,
      focusRow,
      showMessage,
      getLastSave,
      getCurrent: () => pane?.getShown(),
    },
    inbox_rows,
  );
  inbox_search.connectSearch(inbox, page, signal, list.loadPage);
  let pane = /** @type {ReturnType<typeof import("./reading_pane.js").connectPane>} */ (undefined);
  let isPaneLoading = false;
  const { loadPage } = list;
  const paneList = { getShown, findRemaining, markRead, follow, loadPage, handleSubmit, showMessage };
  addEventListener("resize", loadPane, { signal });
  loadPane();
  page.inbox = { getSelectedRows, change, getLastSave };
  // In the heading of the page, which stays when another list takes the place of the inbox.
  const keys = /** @type {HTMLElement|null|undefined} */ (
    inbox.parentElement?.querySelector("[data-shortcuts]")
  );
  if (keys) keys.hidden = false;
  keys?.addEventListener("click", rows.handleKey, { signal });
  const hasRow = rows.connectFilter(view, signal);
  markShownSeen();

  /** Load the reading pane once there is room for it: a phone never loads it. */
  function loadPane() {
    const hasRoom = inbox.parentElement?.querySelector(".notifications-pane")?.checkVisibility();
    if (isPaneLoading || !hasRoom) return;
    isPaneLoading = true;
    page.loadModules("pane").then(
      ({ reading_pane }) => {
        if (!signal.aborted) pane = reading_pane.connectPane(inbox, page, signal, paneList);
      },
      () => {
        isPaneLoading = false;
      },
    );
  }

  /** Return the rows that are shown, and those of groups, without links to older ones. */
  function getShown() {
    return inbox_rows.findRows(inbox).filter((row) => row.hasAttribute("data-raised"));
  }

  /**
   * Change rows, those that the verb can change, and offer to undo it.
   * @param {Verb|""} verb "" for what changes no row
   * @param {HTMLElement[]} rows
   * @param {Save} [save] changes them on the server
   * @param {string} [text] about the change
   */
  async function change(verb, rows, save, text = localization.text(`did_${verb}`)) {
    const changed = rows.filter((row) => canChange(verb, row));
    if (verb && !changed.length) return;
    const next = findRemaining(changed);
    const hadFocus = [...changed, inbox.querySelector(".notifications-for-selection")].some((part) =>
      part?.contains(document.activeElement),
    );
    // Before the response: what is selected meanwhile stays selected.
    const boxes = /** @type {HTMLInputElement[]} */ (changed.map(findBox).filter((box) => box?.checked));
    select(boxes, false);
    const sent = send(verb, changed, { save, retry: () => change(verb, rows, save, text) });
    pane?.keep();
    if (hadFocus && changed[0]) list.focusWhenLoaded(changed[0].hidden ? next : changed[0]);
    const answer = await sent;
    if (!answer) return select(boxes, true);
    const [said, form] = /** @type {[Element, HTMLFormElement]} */ (/** @type {unknown} */ (answer));
    const did = said?.textContent ?? text.replace("{count}", /** @type {any} */ (changed.length));
    if (said ? !form : view === "snoozed") return showMessage(did); // To archive it again would not snooze it.
    const undo = async () => {
      save = form && (() => list.sendForm(form.action, new FormData(form, form.querySelector("button"))));
      if (!(await send(invert(verb), changed, { save, retry: undo }))) return;
      showMessage(localization.text("undone"));
      pane?.keep();
      focusRow(changed[0]);
    };
    showMessage(did, undo, "undo");
  }

  /**
   * Show rows as changed, at once, and change them on the server. If that fails, show that, and them as before.
   * @param {Verb|""} verb
   * @param {HTMLElement[]} rows
   * @param {object} [options]
   * @param {boolean} [options.stay] whether they stay in this view
   * @param {Save} [options.save] changes them on the server
   * @param {() => unknown} [options.retry] what is done again if the server cannot be reached
   * @returns {Promise<Iterable<Element>|null>} what the server says of it, null if they were not changed
   */
  async function send(
    verb,
    rows,
    { stay, retry, save = () => page.mark(/** @type {Verb} */ (verb), rows.map(toItem)) } = {},
  ) {
    show(verb, rows, stay);
    // One after the other: of two changes of a row the server has to apply the last one last.
    const saved = /** @type {ReturnType<Save>} */ (
      new Promise((resolve) => {
        const start = () => waiting.delete(start) && resolve(save(rows));
        waiting.add(start);
        void lastSave.then(start);
      })
    );
    lastSave = saved.catch(() => undefined);
    let answer;
    try {
      answer = await saved;
    } catch (error) {
      show(invert(verb), rows);
      // The same again would be refused again.
      const isRefused = /** @type {any} */ (error).status < 500;
      showMessage(page.describe(error), isRefused ? undefined : retry);
      return null;
    }
    void list.updateViews();
    return answer ?? [];
  }

  /**
   * Mark a row as read that was opened beside the list. It stays there until the list is loaded again.
   * @param {HTMLElement} row
   */
  function markRead(row) {
    if (canChange("read", row)) void send("read", [row], { stay: true, retry: () => markRead(row) });
  }

  /**
   * Mark a row as read whose link, not an action, was followed, to which `returnToRow()` returns later. The page leaves:
   * there is no place for an error.
   * @param {HTMLElement} row
   */
  function follow(row) {
    history.replaceState({ ...history.state, notificationsRow: Number(row.dataset.raised) }, "");
    if (row.hasAttribute("data-unread")) page.mark("read", [toItem(row)]).catch(() => undefined);
  }

  /**
   * Show rows as changed. Those that are in another view now are hidden.
   * @param {Verb|""} verb
   * @param {HTMLElement[]} rows
   * @param {boolean} [stay]
   */
  function show(verb, rows, stay) {
    for (const row of rows) {
      if (verb === "archive") row.hidden = !isDone;
      else if (verb === "unarchive") row.hidden = isDone;
      else {
        if (row.dataset.raised) dom.updateUnreadMark(row, verb === "unread", localization);
        if (view === "unread") row.hidden = verb === "read" && !stay;
      }
    }
  }

  /** @param {MouseEvent} event */
  function handleClick(event) {
    const target = /** @type {HTMLElement} */ (event.target);
    // Not by a submit event, before which the browser looks at all fields of the list.
    const verb = /** @type {HTMLButtonElement|null} */ (target.closest("li button[name]:not([type])"));
    if (verb && !event.defaultPrevented) return handleSubmit(event, verb);
    const link = target.closest("a");
    const row = /** @type {HTMLElement|null|undefined} */ (link?.closest("[data-id]"));
    if (row && !event.defaultPrevented && !link?.matches("[data-post], [data-answer]")) follow(row);
  }

  /**
   * Change one row, a group, the selected rows or all in place.
   * @param {Event} event
   * @param {HTMLButtonElement|null} [button]
   */
  function handleSubmit(event, button = /** @type {any} */ (event).submitter) {
    const { value = "" } = button ?? {};
    const toolbar = /** @type {HTMLElement|null} */ (inbox.querySelector(".notifications-toolbar"));
    // What the bar of a selection does is done with all of the list, by the address of these.
    const all = button?.name === "verb" && toolbar?.hasAttribute("data-all");
    const name = all ? "all" : (button?.name ?? "");
    if (!/^(one|verb|until|group|category|all)$/.test(name)) return;
    event.preventDefault();
    const dialog = /** @type {HTMLDialogElement} */ (inbox.querySelector("#notifications-snoozing"));
    dialog.close();
    const [verb, id] = /** @type {[Verb, string]} */ (value.split("."));
    const group = /** @type {HTMLElement|null|undefined} */ (button?.closest("[data-group]"));
    const row = group ?? dom.findRow(inbox, id);
    const rows = row ? [row] : getSelectedRows();
    const hasGroups = /^(verb|group)$/.test(name) && rows.some(isGroup);
    if ((name === "verb" && !hasGroups) || (name === "one" && row)) return void change(verb, rows);
    const form = /** @type {HTMLFormElement} */ (button?.form);
    const body = new FormData(form, button);
    body.set("zone", Intl.DateTimeFormat().resolvedOptions().timeZone);
    const url = all ? `${toolbar?.dataset.url}` : (button?.getAttribute("formaction") ?? form.action);
    if (all) body.set(name, value);
    // A category, or a notification that has left the list, or is the newest of a group that is closed, has no row.
    if (hasGroups || /^(all|category)$/.test(name) || (id && !row)) {
      const parts = name === "all" ? list.getParts(newest) : hasGroups ? rows.flatMap(withMembers) : [];
      const changed = [...new Set(parts)].filter((part) => canChange(verb, part));
      if (hasGroups) nameRows(body, rows, verb);
      return void change(changed[0] ? verb : "", changed, () => list.sendForm(url, body));
    }
    const local = value.startsWith("time") && `${body.get("time")}`;
    const time = local ? localization.dateTime.format(Date.parse(local)) : button?.textContent;
    const text = (dialog.dataset[verb] ?? dialog.dataset.snoozing)?.replace("{time}", `${time}`);
    void change("archive", rows, (rows) => snooze(rows, body, url), text);
  }

  /**
   * @param {HTMLElement[]} rows
   * @param {FormData} body of the form with the time
   * @param {string} url
   */
  async function snooze(rows, body, url) {
    nameRows(body, rows);
    body.set("part", "list");
    await page.jobs.sendForm(url, body);
    client.refresh();
  }

  /** Mark what the list shows as seen, once the page is visible: it may have been opened in another tab. */
  function markShownSeen() {
    if (!client.unseen || document.visibilityState !== "visible") return;
    // The first row of each section is its newest.
    const places = inbox_rows.findSections(inbox).map((section) => {
      const row = /** @type {HTMLElement|null} */ (section.querySelector("li[data-raised]:not([hidden])"));
      return Number(row?.dataset.place ?? row?.dataset.raised ?? 0);
    });
    void page.markSeen(Math.max(0, ...places));
  }

  /** @param {Change} change */
  function handleChange({ op, notifications }) {
    rows.updateRows(inbox, notifications);
    pane?.showEnd(notifications, hasRow);
    list.offerNewer(page.newerThan(newest).filter(hasRow));
    markShownSeen();
    if (op !== "jobs" && notifications.length) list.updateViewsSoon();
  }

  /**
   * Drop everything about the user when they have signed out, and load the page again when they are back.
   * @param {string} state
   */
  function handleState(state) {
    const isSignedOut = inbox.dataset.state === "signed_out";
    const isReachable = state === "live" || state === "polling";
    if (isReachable && message.hasAttribute("data-unsaved")) showMessage("");
    if (isSignedOut && isReachable) location.reload();
    if (isSignedOut || state !== "signed_out") return;
    inbox.dataset.state = state;
    for (const part of [...(inbox.parentElement?.children ?? [])]) {
      if (part !== inbox && !part.matches(".notifications-heading")) part.remove();
    }
    const note = dom.createElement("p", "notifications-note", `${localization.text("signed_out")} `);
    note.role = "status";
    note.append(page.createSignInLink());
    inbox.replaceChildren(note);
  }

  /**
   * @param {Verb|""} verb
   * @param {HTMLElement} row
   */
  function canChange(verb, row) {
    if (row.hasAttribute("data-question")) return false; // It stays unread until it is answered.
    if (verb === "read" && row.hasAttribute("data-end")) return view === "unread";
    // What is archived is not shown as unread.
    if (verb === "read" || verb === "unread")
      return !isDone && row.hasAttribute("data-unread") === (verb === "read");
    return (verb === "unarchive") === isDone;
  }

  /**
   * Return the row that takes the place of these ones when they are hidden: the next one, or that before them.
   * @param {HTMLElement[]} changed
   */
  function findRemaining(changed) {
    for (const side of /** @type {const} */ (["nextNode", "previousNode"])) {
      let row = /** @type {HTMLElement|null} */ (changed[0]);
      do row = rows.findBeside(inbox, row, side);
      while (row && (!row.dataset.raised || changed.includes(row)));
      if (row) return row;
    }
  }

  /**
   * @param {string} text
   * @param {() => unknown} [act] what its button does: it undoes, or tries again what has not reached the server
   * @param {"undo"|"again"} [key] of the text of the button
   */
  function showMessage(text, act, key = "again") {
    message.textContent = text;
    message.toggleAttribute("data-unsaved", Boolean(act) && key === "again");
    if (!act) return;
    const button = dom.createElement("button", "notifications-quiet", localization.text(key));
    button.addEventListener("click", act, { once: true });
    message.append(button);
  }
}

/** @param {HTMLElement|undefined} row */
function focusRow(row) {
  /** @type {HTMLElement|null|undefined} */ (row?.querySelector("a.notifications-title"))?.focus();
}
