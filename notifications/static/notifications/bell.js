// <notifications-bell>: a button with one number, of what is new and what waits for an answer. The panel that it opens (bell_panel.js) is loaded when somebody is about
// to press it.

/** @typedef {import("./notifications.js").Page} Page */

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
  const { client, localization } = page;
  const { createElement } = page.dom;
  const button = createElement("button", "notifications-button");
  const label = createElement("span", "notifications-hidden");
  const badge = createElement("span", "notifications-count");
  const panel = createElement("div", "notifications-panel");
  let titlePrefix = "";
  let lastUnseen = client.unseen ?? 0;
  let shownState = /** @type {string|null} */ (null);
  let loading = /** @type {Promise<void>|null} */ (null);
  let isLoaded = false;

  badge.ariaHidden = "true";
  button.popoverTargetElement = panel;
  button.append(...element.querySelectorAll(".notifications-icon"), label, badge);
  button.addEventListener("click", openWhenLoaded);
  for (const type of ["pointerenter", "focus"])
    button.addEventListener(type, () => load().catch(() => undefined));
  panel.popover = "auto";
  panel.role = "dialog";
  panel.ariaLabel = localization.text("notifications");
  element.replaceChildren(button, panel);
  document.addEventListener("visibilitychange", updateCount, { signal });
  panel.addEventListener("toggle", updateCount);
  panel.addEventListener("toggle", placePanel);
  addEventListener("resize", placePanel, { signal });
  for (const stop of [
    client.on("change", handleChange),
    client.on("state", showState),
    page.onOutage(showState),
  ])
    signal.addEventListener("abort", stop);
  showState();

  /** Load what the panel shows, once. After a failure it is tried again. */
  function load() {
    loading ??= page.loadModules("rows").then(
      ({ bell_panel }) => {
        if (!signal.aborted) bell_panel.connectPanel(panel, page, signal);
        isLoaded = true;
      },
      (error) => {
        loading = null;
        throw error;
      },
    );
    return loading;
  }

  /**
   * Open the panel once it is loaded. Later the browser opens and closes it.
   * @param {Event} event
   */
  async function openWhenLoaded(event) {
    if (isLoaded) return;
    event.preventDefault();
    button.ariaBusy = "true";
    try {
      await load();
    } catch {
      return location.assign(page.inboxUrl);
    } finally {
      button.ariaBusy = null;
    }
    if (!signal.aborted) panel.togglePopover(true);
  }

  function updateCount() {
    const [unread, unseen] = [client.unread ?? 0, client.unseen ?? 0];
    const { questions } = page;
    const counts = { count: unread, new: unseen };
    if (unseen) label.textContent = localization.text("bell_new", counts);
    else label.textContent = unread ? localization.text("bell", counts) : localization.text("bell_none");
    if (questions) label.append(`, ${localization.text("bell_questions", { count: questions })}`);
    // Until the server has counted again, at least each open question counts once.
    const number = Math.max(unseen - countOffered(unseen) + page.seenQuestions, questions);
    badge.textContent = localization.formatBadge(number);
    badge.hidden = number === 0;
    badge.classList.toggle("notifications-asks", questions > 0);
    updateTitle();
  }

  /**
   * Return how many of the newest unread notifications a list on the screen offers, without questions, which wait for an answer.
   * @param {number} unseen
   */
  function countOffered(unseen) {
    const isOffered = (/** @type {import("./client.js").Notification} */ item) =>
      item.data.question?.ended !== null && [...page.openLists].some((hasRow) => hasRow(item));
    const unread = page.newerThan(-1).filter(page.dom.isUnread);
    return unread
      .sort((a, b) => b.raised - a.raised)
      .slice(0, unseen)
      .filter(isOffered).length;
  }

  /** Put the unseen count before the title of a hidden tab. The page may have changed its title meanwhile. */
  function updateTitle() {
    const { title, visibilityState } = document;
    const ownTitle = title.startsWith(titlePrefix) ? title.slice(titlePrefix.length) : title;
    const unseen = client.unseen ?? 0;
    titlePrefix = visibilityState === "hidden" && unseen ? `(${localization.formatBadge(unseen)}) ` : "";
    if (title !== titlePrefix + ownTitle) document.title = titlePrefix + ownTitle;
  }

  /** @param {import("./client.js").Change} change */
  function handleChange({ op, reset, notifications }) {
    const isSeen = page.questions > 0 && (client.unseen ?? 0) < lastUnseen;
    lastUnseen = client.unseen ?? 0;
    updateCount();
    if (op !== "jobs" && (isSeen || reset || notifications.some((item) => item.data.question)))
      void countQuestions();
  }

  async function countQuestions() {
    try {
      await page.countQuestions();
      updateCount();
    } catch {
      // It is the number of before, until the next change of a question.
    }
  }

  /** Show that the user is signed out, or that the server cannot be reached. */
  function showState() {
    const isSignedOut = client.state === "signed_out";
    const state = isSignedOut ? "signed_out" : page.isOut() ? "offline" : "";
    if (state === shownState) return;
    shownState = element.dataset.state = state;
    if (isSignedOut) page.questions = page.seenQuestions = 0;
    updateCount();
    button.title = state && localization.text(state);
  }

  /** Place the panel below the button and inside the window; a style sheet does not know where the button is. */
  function placePanel() {
    if (!panel.matches(":popover-open")) return;
    const { left, right, bottom } = button.getBoundingClientRect();
    const width = panel.offsetWidth;
    const start = getComputedStyle(button).direction === "rtl" ? left : right - width;
    const maxLeft = document.documentElement.clientWidth - width - PANEL_MARGIN_PX;
    panel.style.left = `${Math.max(PANEL_MARGIN_PX, Math.min(start, maxLeft))}px`;
    panel.style.top = `${Math.max(PANEL_MARGIN_PX, bottom + PANEL_MARGIN_PX)}px`;
  }
}
