// The toasts of a page: three for one notification each, one on a phone, the worst first or what asks, and one that counts the rest.

/**
 * @typedef {import("./client.js").Notification} Notification
 * @typedef {import("./client.js").Change} Change
 * @typedef {import("./notifications.js").Page} Page
 * @typedef {{items: Notification[], node: HTMLElement, isRest: boolean, isEnded: boolean, place: number, timer: any}} Toast
 * @typedef {ReturnType<typeof connectList>} ToastList
 */

const TOAST_DURATION_MS = 8_000;
/** How long the toast of a question shows its answer, and that of an action that it is done. */
const ANSWER_DURATION_MS = 2_500;
const MAX_TOASTS = 3;
/** Where there is room for one: as in notifications.css. */
const NARROW = "(width < 30rem)";

/**
 * Return what shows toasts in an element.
 * @param {HTMLElement} element
 * @param {Page} page
 * @param {AbortSignal} signal aborted when the element is removed
 */
export function connectList(element, page, signal) {
  const { client, localization, dom, rows, clock } = page;
  /** @type {Toast[]} */
  let toasts = [];
  /** What had the focus before the toasts. */
  let returnTarget = /** @type {Element|null} */ (null);
  document.addEventListener("keydown", handleKey, { signal });
  element.addEventListener("focusin", ({ relatedTarget }) => {
    if (!element.contains(/** @type {Node|null} */ (relatedTarget)))
      returnTarget = /** @type {Element|null} */ (relatedTarget);
  });
  element.addEventListener("notifications:action-done", ({ target }) => {
    const toast = findToast(/** @type {Node} */ (target));
    if (toast) showEnd(toast);
  });
  // An opened bell shows what the toasts show. The event of a popover does not bubble.
  document.addEventListener("toggle", clearForBell, { signal, capture: true });
  for (const stop of [
    client.on("change", handleChange),
    client.on("state", (state) => state === "signed_out" && clear()),
    clear,
  ])
    signal.addEventListener("abort", stop);
  return { show };

  /** @param {Notification[]} items */
  function show(items) {
    const init = { bubbles: true, cancelable: true, detail: items };
    if (element.dispatchEvent(new CustomEvent("notifications:toast", init))) arrange(items);
  }

  /**
   * Show the worst as a toast each, and count the rest in one. Those in use come first, and of two alike the one that is
   * shown already.
   * @param {Notification[]} [items] new ones
   */
  function arrange(items = []) {
    const used = toasts.filter((toast) => !toast.isRest && isUsed(toast)).map(({ items }) => items[0]);
    const order = (/** @type {Notification} */ item) => (used.includes(item) ? -2 : rank(item));
    const all = [...toasts.flatMap((toast) => toast.items), ...items].sort((a, b) => order(a) - order(b));
    const singles = all.splice(0, matchMedia(NARROW).matches ? 1 : MAX_TOASTS);
    keepFocus(() => {
      for (const toast of toasts) if (toast.isRest || !singles.includes(toast.items[0])) remove(toast);
      for (const item of singles) if (!toasts.some((toast) => toast.items[0] === item)) add([item]);
      if (all.length) add(all, true);
    });
  }

  /** @param {Node|null} node in a toast, or elsewhere */
  function findToast(node) {
    return toasts.find((toast) => toast.node.contains(node));
  }

  /**
   * Return whether the user is pressing, or about to press, what is in a toast.
   * @param {Toast} toast
   */
  function isUsed({ node, isEnded }) {
    return isEnded || node.matches(":is(:hover, :focus-within, :has([aria-busy], dialog[open]))");
  }

  /**
   * Return the place of a notification among others: errors come before what has something to do, warnings, and what is
   * left. Where one has room, the question that waits for the user comes before all.
   * @param {Notification} item
   */
  function rank(item) {
    if (rows.isOpenQuestion(item) && matchMedia(NARROW).matches) return -1;
    if (item.level === "error") return 0;
    if (rows.isOpenQuestion(item) || Array.isArray(item.data.actions)) return 1;
    return item.level === "warning" ? 2 : 3;
  }

  /** @param {Notification} item */
  function isLasting(item) {
    return item.level === "error" || rows.isOpenQuestion(item);
  }

  /** @param {Event} event */
  function clearForBell({ target }) {
    if (/** @type {Element} */ (target).matches(".notifications-panel:popover-open")) clear();
  }

  function clear() {
    for (const toast of toasts) remove(toast);
  }

  /** @param {Change} change */
  function handleChange(change) {
    const readIds = new Set(
      change.notifications.filter((item) => !dom.isUnread(item)).map((item) => item.id),
    );
    let isChanged = false;
    keepFocus(() => {
      for (const toast of toasts) {
        const left = toast.items.filter((item) => !readIds.has(item.id));
        // An action that is being sent or confirmed will say that it is done.
        const isPosted = toast.node.querySelector("[data-post]:is([aria-busy], :has(~ dialog))");
        if (left.length === toast.items.length || isPosted || toast.isEnded) continue;
        const ended = change.notifications.find((item) => item.id === toast.items[0].id);
        if (!toast.isRest && ended && rows.isOpenQuestion(toast.items[0])) {
          showAnswer(toast, ended);
          continue;
        }
        isChanged = true;
        toast.items = left;
        if (!left.length) remove(toast);
      }
      if (isChanged) arrange();
    });
  }

  /**
   * Show the answer of a question in its toast.
   * @param {Toast} toast
   * @param {Notification} item
   */
  function showAnswer(toast, item) {
    const { node } = toast;
    const hadFocus = node.contains(document.activeElement);
    showEnd(toast);
    node.querySelector(".notifications-summary")?.replaceWith(rows.createSummary(item));
    node.querySelector(".notifications-actions")?.remove();
    if (hadFocus) focus(node.querySelector("a"));
    toast.items = [item];
  }

  /**
   * Leave a toast that shows what came of it for a moment in its place, with its height: the next one would be under the
   * finger.
   * @param {Toast} toast
   */
  function showEnd(toast) {
    const { node } = toast;
    node.style.minHeight = `${node.offsetHeight}px`;
    toast.isEnded = true;
    clock.clearTimeout(toast.timer);
    toast.timer = clock.setTimeout(() => dismiss(toast), ANSWER_DURATION_MS);
  }

  /**
   * @param {Notification[]} items one notification, or the rest of them
   * @param {boolean} [isRest]
   */
  function add(items, isRest = false) {
    const [first] = items;
    const node = dom.createElement("div", `notifications-toast${isRest ? " notifications-rest" : ""}`);
    const place = isRest ? Infinity : rank(first);
    const toast = { items, node, isRest, isEnded: false, place, timer: /** @type {any} */ (null) };
    const button = dom.createElement("button", "notifications-close");
    button.ariaLabel = localization.text("dismiss");
    button.addEventListener("click", () => dismiss(toast));
    const errors = items.filter((item) => item.level === "error").length;
    const actions = !isRest && rows.createActions(first);
    node.dataset.level = isRest ? (errors ? "error" : "info") : first.level;
    node.append(
      isRest ? createRest(items, errors) : rows.createSummary(first),
      button,
      ...(actions ? [actions] : []),
    );
    if (!toasts.length)
      node.append(dom.createElement("span", "notifications-hidden", localization.text("toasts_key")));
    const region = element.querySelector(`:scope > [role=${place < 3 ? "alert" : "status"}]`);
    const [next] = toasts
      .filter((other) => other.place > place && region?.contains(other.node))
      .sort((a, b) => a.place - b.place);
    region?.insertBefore(node, next?.node ?? null);
    toasts.push(toast);
    if (!items.some(isLasting)) startTimer(toast);
  }

  /**
   * Return the link to the notifications that have no toast of their own.
   * @param {Notification[]} items
   * @param {number} errors how many of them are errors
   */
  function createRest(items, errors) {
    const count = items.length;
    const isOne = errors === 1;
    const text = errors
      ? localization.text(isOne ? "rest_error" : "rest_errors", { count, errors })
      : localization.text("rest", { count });
    const item = { ...items[0], title: text, body: "", url: page.inboxUrl, data: {} };
    return rows.createSummary(/** @type {Notification} */ (item), false);
  }

  /**
   * Remove a toast after 8 s. Hover and focus stop the timer; it starts again from 8 s when the toast is no longer used.
   * @param {Toast} toast
   */
  function startTimer(toast) {
    const { node } = toast;
    const stop = () => {
      if (!toast.isEnded) clock.clearTimeout(toast.timer); // showEnd() has set another one.
    };
    const restart = () => {
      if (toast.isEnded) return;
      stop();
      toast.timer = clock.setTimeout(() => (isUsed(toast) ? restart() : expire(toast)), TOAST_DURATION_MS);
    };
    for (const type of ["mouseenter", "focusin"]) node.addEventListener(type, stop);
    for (const type of ["mouseleave", "focusout"]) node.addEventListener(type, () => setTimeout(restart));
    restart();
  }

  /**
   * F8 moves the focus to the newest toast of one notification, and back from the toasts. Escape dismisses a toast.
   * @param {KeyboardEvent} event
   */
  function handleKey(event) {
    const { key, defaultPrevented } = event;
    const focused = document.activeElement;
    if (defaultPrevented || !toasts.length) return;
    if (key === "F8") {
      event.preventDefault();
      if (element.contains(focused)) return returnFocus();
      focusToast();
      returnTarget = focused;
    }
    if (key !== "Escape" || document.querySelector("[popover]:popover-open, dialog[open]")) return;
    dismiss(/** @type {Toast} */ (findToast(focused) ?? toasts.at(-1)));
  }

  /**
   * The next one takes its place.
   * @param {Toast} toast
   */
  function dismiss(toast) {
    keepFocus(() => {
      remove(toast);
      arrange();
    });
  }

  /**
   * Another one takes its place only if it would stay: the others had their time in the one that counts them.
   * @param {Toast} toast
   */
  function expire(toast) {
    remove(toast);
    if (toasts.some(({ isRest, items }) => isRest && items.some(isLasting))) arrange();
  }

  /**
   * Move the focus to what takes the place of its toast, or back from the toasts, if a change removes what has it.
   * @param {() => void} change
   */
  function keepFocus(change) {
    const toast = findToast(document.activeElement);
    change();
    if (!toast || element.contains(document.activeElement)) return;
    if (toasts.length) focusToast(toast.isRest);
    else returnFocus();
  }

  /**
   * Move the focus to the newest toast, or to the one that counts the rest.
   * @param {boolean} [isRest]
   */
  function focusToast(isRest = false) {
    const toast = toasts.findLast((each) => each.isRest === isRest) ?? toasts[0];
    focus(toast.node.querySelector("a, button"));
  }

  /**
   * Move the focus within the toasts: the browser does not know any more where it was if that was removed.
   * @param {HTMLElement|null} node
   */
  function focus(node) {
    const target = returnTarget;
    node?.focus();
    returnTarget = target;
  }

  function returnFocus() {
    /** @type {HTMLElement|null} */ (document.activeElement)?.blur(); // The body takes no focus.
    /** @type {HTMLElement|null} */ (returnTarget)?.focus?.();
  }

  /** @param {Toast} toast */
  function remove(toast) {
    clock.clearTimeout(toast.timer);
    toast.node.remove();
    toasts = toasts.filter((other) => other !== toast);
  }
}
