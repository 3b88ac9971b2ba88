// The reading pane beside the list of the inbox, where the window is wide: the page of the notification under the cursor, or of
// the one that was clicked, without its layout. The server renders it.

/**
 * @typedef {import("./client.js").Notification} Notification
 * @typedef {import("./notifications.js").Page} Page
 * @typedef {{getShown: () => HTMLElement[], findRemaining: (changed: HTMLElement[]) => HTMLElement|undefined, markRead: (row: HTMLElement) => void, follow: (row: HTMLElement) => void,
 *   loadPage: (url: string, selector: string) => Promise<Element>,
 *   handleSubmit: (event: SubmitEvent) => void,
 *   showMessage: (text: string) => void}} List
 */

/** A cursor that moves on within this time loads nothing. */
const LOAD_DELAY_MS = 100;
const SKELETON_DELAY_MS = 300;

/**
 * Show the first row of the list, until another one is chosen.
 * @param {HTMLElement} inbox
 * @param {Page} page
 * @param {AbortSignal} signal aborted when the inbox is removed
 * @param {List} list
 */
export function connectPane(inbox, page, signal, list) {
  const { client, clock, dom, localization, rows } = page;
  const pane = /** @type {HTMLElement|null|undefined} */ (
    inbox.parentElement?.querySelector(".notifications-pane")
  );
  if (!pane) return;
  const parts = /** @type {HTMLElement[]} */ ([.../** @type {Element} */ (pane.firstElementChild).children]);
  const [failure, content, skeleton] = parts;
  const failureText = /** @type {HTMLElement} */ (failure.firstElementChild);
  const unreadable = failureText.textContent;
  /** The row that is marked as shown, none while the pane is not visible; and its notification, another one in time if it is a group. */
  let shown = /** @type {HTMLElement|undefined} */ (undefined);
  let shownId = "";
  /** The text of the control that has the focus, or had it before it was replaced; null without one. */
  let focused = /** @type {string|null} */ (null);
  /** The notification of the content. */
  let loadedId = "";
  let timer = /** @type {any} */ (null);
  /** Whether a person has chosen the row. Other requests do not prolong their session. */
  let isChosen = false;
  /** Whether the focus moves without a person, from a row that was changed: the pane stays. */
  let isKept = false;
  /** The job whose question was answered here, beside its notification. */
  let answeredJob = /** @type {string|null|undefined} */ (null);
  let request = new AbortController();

  // The row of a group gives its mark to one that is in the list when the group is open.
  const observer = new MutationObserver(() => (shown?.dataset.id && isListed(shown)) || update());
  observer.observe(inbox, { subtree: true, childList: true, attributeFilter: ["hidden"] });
  document.addEventListener("focusin", handleFocus, { signal });
  // Before the list marks a row as read whose link is followed.
  inbox.addEventListener("click", handleListClick, { signal, capture: true });
  pane.addEventListener("click", handleClick, { signal });
  pane.addEventListener("submit", handleSubmit, { signal });
  pane.addEventListener("notifications:job-done", loadSoon, { signal });
  addEventListener("resize", update, { signal });
  // A socket may have survived, so that the server was never out of reach.
  addEventListener("online", () => failure.hidden || loadSoon(), { signal });
  const stopChanges = client.on("change", handleChange);
  const stopOutages = page.onOutage((isOut) => (isOut ? showFailure() : loadSoon()));
  signal.addEventListener("abort", () => {
    observer.disconnect();
    stopChanges();
    stopOutages();
    show(undefined);
  });
  update();
  return {
    showEnd,
    getShown: () => shown,
    /** Show the same row although the focus moves now. */
    keep() {
      isKept = true;
      clock.setTimeout(() => (isKept = false), 0);
    },
  };

  /**
   * Remember the job of the question that is shown when an answer to it is pressed, in its row or in the pane.
   * @param {Element|null} link
   */
  function rememberAnswer(link) {
    if (link?.matches("[data-answer]"))
      answeredJob = content.querySelector("notifications-job")?.getAttribute("job");
  }

  /** @param {import("./client.js").Change} change */
  function handleChange({ notifications }) {
    if (notifications.some((item) => item.id === shownId)) loadSoon(); // Also while it is being loaded.
  }

  /**
   * Show the new end of a job that was tried again in the row of the one before, which leaves the list, and in the pane
   * that of one whose question was answered there.
   * @param {Notification[]} arrived
   * @param {(item: Notification) => boolean} isListed
   */
  function showEnd(arrived, isListed) {
    const { retried, raised } = shown?.dataset ?? {};
    const answered = arrived.find((item) => item.job === answeredJob && item.data.question === undefined);
    if (answeredJob && answered && document.visibilityState === "visible") {
      page.shownIds.add(answered.id);
      page.mark("read", [answered]).catch(() => undefined);
      loadSoon();
    }
    const end = arrived.find(
      (item) => item.job === retried && item.raised > Number(raised) && isListed(item),
    );
    if (!shown || !end) return;
    page.mark("archive", [{ id: shownId, raised: Number(raised) }]).catch(() => undefined);
    rows.replaceRow(shown, end);
    rows.updateRow(shown, end);
    shownId = loadedId = end.id;
    loadSoon();
    if (document.visibilityState === "visible") list.markRead(shown);
  }

  /** The style sheet decides: a narrow window and an empty list have no pane. */
  function isVisible() {
    return pane?.checkVisibility();
  }

  /** Follow the list: the row that was shown may have left, and another one may be the first. */
  function update() {
    show(isVisible() ? findRow(list, shown, document.activeElement) : undefined);
  }

  /** @param {HTMLElement|undefined} row */
  function show(row, isByPerson = false) {
    const id = row ? getId(row) : "";
    // In a group that is open, the row of the notification that the group names.
    const marked =
      row?.dataset.id === id ? row : (list.getShown().find(({ dataset }) => dataset.id === id) ?? row);
    if (marked !== shown) {
      if (marked && row === shown) list.markRead(marked); // A person has opened the group, and so this one.
      shown?.removeAttribute("aria-current");
      shown = marked;
      marked?.setAttribute("aria-current", "true");
    }
    if (id === shownId) return;
    isChosen = isByPerson;
    answeredJob = null;
    shownId = id;
    loadSoon();
  }

  function loadSoon() {
    request.abort();
    clock.clearTimeout(timer);
    timer = clock.setTimeout(load, LOAD_DELAY_MS);
  }

  async function load() {
    const id = shownId;
    if (!id) return;
    request = new AbortController();
    const { signal } = request;
    const isOther = id !== loadedId;
    // What is being done in the content, or about to be, is not taken away.
    const isInUse = () => content.querySelector(isOther ? "dialog[open]" : "dialog[open], a[aria-busy]");
    const skeletonTimer = clock.setTimeout(
      () => isOther && !isInUse() && showParts(skeleton),
      SKELETON_DELAY_MS,
    );
    try {
      const url = `${page.inboxUrl}${id}/?part=pane${isChosen ? "" : "&background=1"}`;
      isChosen = false;
      const loaded = await list.loadPage(url, ".notifications-page");
      while (isInUse() && !signal.aborted)
        await new Promise((resolve) => clock.setTimeout(() => resolve(undefined), LOAD_DELAY_MS));
      signal.throwIfAborted(); // Another one is shown.
      loadedId = id;
      if (!isOther) keepOpen(content, loaded);
      replaceContent(loaded);
      if (isOther) /** @type {Element} */ (content.parentElement).scrollTop = 0;
    } catch {
      if (!signal.aborted) showFailure();
    }
    clock.clearTimeout(skeletonTimer);
  }

  /**
   * A focus in the pane stays where it was: on *Done* of the next notification, or on the verb that undoes the last one.
   * The output of the same job stays too, with its scroll position: its own element adds what follows.
   * @param {Element} loaded
   */
  function replaceContent(loaded) {
    let kept = /** @type {Element} */ (content.querySelector("notifications-output"));
    let next = /** @type {Element} */ (
      loaded.querySelector(`notifications-output[job="${kept?.getAttribute("job")}"]`)
    );
    if (!next) content.replaceChildren(loaded);
    else
      while (next !== loaded) {
        const [parent, source] = /** @type {Element[]} */ ([kept.parentElement, next.parentElement]);
        while (kept.previousSibling) kept.previousSibling.remove();
        while (kept.nextSibling) kept.nextSibling.remove();
        while (next.previousSibling) parent.prepend(next.previousSibling);
        while (next.nextSibling) parent.append(next.nextSibling);
        [kept, next] = [parent, source];
      }
    dom.updateTimes(content, localization);
    rows.restoreDone(content);
    showParts(content);
    if (focused === null || content.contains(document.activeElement)) return;
    const controls = /** @type {HTMLElement[]} */ ([...content.querySelectorAll("a, button, pre, summary")]);
    const isSame = (/** @type {Element} */ { textContent }) => textContent === focused;
    const control = controls.find(isSame) ?? controls.find((control) => control.matches("[name=one]"));
    (control ?? controls[0])?.focus({ preventScroll: true });
  }

  /** Say that the notification could not be loaded, or why: what is shown of it stays. */
  function showFailure() {
    if (!shown) return;
    failureText.textContent = page.isOut() ? localization.text("offline") : unreadable;
    showParts(failure, ...(shownId === loadedId ? [content] : []));
  }

  /** @param {HTMLElement[]} visible */
  function showParts(...visible) {
    for (const part of parts) part.hidden = !visible.includes(part);
  }

  /**
   * Show the row to which the keyboard has moved. A press of the mouse on a control of a row does not choose it.
   * @param {FocusEvent} event
   */
  function handleFocus({ target }) {
    const element = /** @type {HTMLElement} */ (target);
    const row = /** @type {HTMLElement|null} */ (element.closest("notifications-inbox li[data-raised]"));
    const isCursor = element === row || element.matches(".notifications-title, :focus-visible");
    focused = pane?.contains(element) ? element.textContent : null;
    if (row && isCursor && !isKept && isVisible()) show(row, true);
  }

  /**
   * Show the row that was clicked.
   * @param {MouseEvent} event
   */
  function handleListClick(event) {
    const clicked = /** @type {Element} */ (event.target);
    const row = /** @type {HTMLElement|null} */ (clicked.closest("li[data-id]"));
    if (row === shown) rememberAnswer(clicked.closest("a"));
    if (!row || !isVisible() || !isForPane(event, getId(row))) return;
    event.preventDefault();
    row.tabIndex = -1;
    row.focus({ preventScroll: true });
    show(row, true);
    list.markRead(row);
  }

  /** @param {MouseEvent} event */
  function handleClick(event) {
    const clicked = /** @type {Element} */ (event.target);
    if (failure.contains(clicked.closest("button"))) return void load();
    const link = clicked.closest("a");
    rememberAnswer(link);
    if (link && shown && !link.matches("[data-post], [data-answer]")) list.follow(shown);
  }

  /**
   * The forms of jobs are sent without leaving the page. Verbs are those of the list.
   * @param {SubmitEvent} event
   */
  async function handleSubmit(event) {
    const form = /** @type {HTMLFormElement} */ (event.target);
    if (!form.matches("[data-notifications-send]")) return list.handleSubmit(event);
    event.preventDefault();
    if (form.ariaBusy) return;
    form.ariaBusy = "true";
    // Who presses has read it. Unread, it would be archived when a job that is retried ends again, while it is shown.
    if (shown?.dataset.id) {
      list.markRead(shown);
      shown.dataset.retried = form.dataset.job ?? "";
    }
    try {
      await page.jobs.sendForm(form.action, new FormData(form, event.submitter));
      loadSoon();
    } catch (error) {
      form.ariaBusy = null;
      list.showMessage(page.describe(error, localization.text("unsent")));
    }
  }
}

/**
 * Return the row that is shown, or the one in its place: that with the focus, where a group was closed.
 * @param {Pick<List, "getShown"|"findRemaining">} list
 * @param {HTMLElement|undefined} shown
 * @param {Element|null} focused
 */
export function findRow(list, shown, focused) {
  if (shown?.isConnected) return isListed(shown) ? shown : list.findRemaining([shown]);
  const rows = list.getShown();
  const row = rows.find((row) => row.contains(focused));
  if (row || !shown) return row || rows[0];
  return rows.find((row) => Number(row.dataset.raised) <= Number(shown.dataset.raised)) ?? rows.at(-1);
}

/** @param {HTMLElement|undefined} row */
function isListed(row) {
  return row?.isConnected && !row.hidden;
}

/**
 * Return whether a click on a row shows it: not on a control, nor with a key that opens another tab or window. The key Enter
 * follows the title, whose row is shown since it has the focus, unless it leads to the page of the notification itself.
 * @param {MouseEvent} event
 * @param {string} id of its notification
 */
export function isForPane({ target, detail, ctrlKey, metaKey, shiftKey }, id) {
  const clicked = /** @type {Element} */ (target);
  const link = clicked.closest("a");
  const isTitle = link?.matches(".notifications-title") && (detail || link.pathname.endsWith(`/${id}/`));
  const isRow = !link || isTitle;
  return isRow && !ctrlKey && !metaKey && !shiftKey && !clicked.closest("button, label, dialog");
}

/**
 * Open what is open in the content that is shown.
 * @param {Element} shown
 * @param {Element} loaded
 */
function keepOpen(shown, loaded) {
  for (const { textContent } of shown.querySelectorAll("details[open] > summary"))
    for (const summary of loaded.querySelectorAll("summary"))
      if (summary.textContent === textContent) summary.parentElement?.setAttribute("open", "");
}

/** @param {HTMLElement} row of a notification, or of a group, which names one */
function getId({ dataset }) {
  return dataset.id ?? dataset.named ?? "";
}
