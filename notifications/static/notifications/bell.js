// <notifications-bell>: a button with one number, of what is new and what waits for an answer. The panel that it opens (bell_panel.js) is loaded when somebody is about
// to press it.

/** @typedef {import("./notifications.js").Page} Page */

/** The elements of the page that have a panel. */
const panels = /** @type {Set<Element>} */ (new Set());

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
  const container = document.createElement("notifications-panel");
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
  element.replaceChildren(button);
  // Outside of the bar, whose rules for its lists would reach it. The Tab key goes from the button into the panel.
  container.append(panel);
  document.body.append(container);
  panels.add(container);
  signal.addEventListener("abort", () => {
    panels.delete(container);
    container.remove();
  });
  // Of a page that was kept as it was, by Turbo or htmx.
  for (const copy of document.querySelectorAll("notifications-panel")) if (!panels.has(copy)) copy.remove();
  document.addEventListener("visibilitychange", updateCount, { signal });
  panel.addEventListener("toggle", updateCount);
  for (const stop of [
    client.on("change", handleChange),
    client.on("state", showState),
    page.onOutage(showState),
  ])
    signal.addEventListener("abort", stop);
  showState();

  /** Load what the panel shows, once. After a failure it is tried again. */
  function load() {
    loading ??= page.loadModules("panel").then(
      ({ bell_panel, bell_place }) => {
        if (!signal.aborted) {
          bell_place.keepPlaced(panel, button, signal);
          bell_panel.connectPanel(panel, page, signal);
        }
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
    // The type of TypeScript has no options; a browser that does not know them takes them for true.
    const options = /** @type {any} */ ({ force: true, source: button });
    if (!signal.aborted) panel.togglePopover(options);
  }

  function updateCount() {
    const [unread, unseen] = [client.unread ?? 0, client.unseen ?? 0];
    const { questions } = page;
    const counts = { count: unread, new: unseen };
    label.textContent = localization.text(unseen ? "bell_new" : unread ? "bell" : "bell_none", counts);
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
    shownState = element.dataset.state = container.dataset.state = state;
    if (isSignedOut) page.questions = page.seenQuestions = 0;
    updateCount();
    button.title = state && localization.text(state);
  }
}
