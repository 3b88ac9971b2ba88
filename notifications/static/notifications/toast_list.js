// The toasts of a page: single ones, and one for many.

/**
 * @typedef {import("./client.js").Notification} Notification
 * @typedef {import("./client.js").Change} Change
 * @typedef {import("./notifications.js").Page} Page
 * @typedef {{items: Notification[], node: HTMLElement, timer: any}} Toast
 * @typedef {ReturnType<typeof connectList>} ToastList
 */

const TOAST_DURATION_MS = 8_000;
const MAX_TOASTS = 3;

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
  /** What had the focus before F8. */
  let returnTarget = /** @type {Element|null} */ (null);
  document.addEventListener("keydown", handleKey, { signal });
  // An opened bell shows what the toasts show. The event of a popover does not bubble.
  document.addEventListener("toggle", clearForBell, { signal, capture: true });
  for (const stop of [
    client.on("change", handleChange),
    client.on("state", (state) => state === "signed_out" && clear()),
    clear,
  ])
    signal.addEventListener("abort", stop);
  return { show };

  /**
   * Show each notification as a toast, or all as one summary if there are more than three.
   * @param {Notification[]} items
   */
  function show(items) {
    const init = { bubbles: true, cancelable: true, detail: items };
    if (!element.dispatchEvent(new CustomEvent("notifications:toast", init))) return;
    const all = [...toasts.flatMap((toast) => toast.items), ...items];
    if (all.length > MAX_TOASTS || toasts.some((toast) => toast.items.length > 1)) {
      clear();
      add(all);
    } else {
      for (const item of items) add([item]);
    }
  }

  /** @param {Event} event */
  function clearForBell({ target }) {
    if (/** @type {Element} */ (target).matches(".notifications-panel:popover-open")) clear();
  }

  function clear() {
    for (const toast of [...toasts]) remove(toast);
  }

  /** @param {Change} change */
  function handleChange(change) {
    const readIds = new Set(
      change.notifications.filter((item) => !dom.isUnread(item)).map((item) => item.id),
    );
    for (const toast of [...toasts]) if (toast.items.every((item) => readIds.has(item.id))) remove(toast);
  }

  /** @param {Notification[]} items one notification, or several for a summary */
  function add(items) {
    const [first] = items;
    const count = items.length;
    const isError = items.some((item) => item.level === "error");
    const isAlert = isError || items.some((item) => item.level === "warning");
    const node = dom.createElement("div", "notifications-toast");
    node.dataset.level = count === 1 ? first.level : isError ? "error" : "info";
    const toast = { items, node, timer: /** @type {any} */ (null) };
    const button = dom.createElement("button", "notifications-close");
    button.ariaLabel = localization.text("dismiss");
    button.addEventListener("click", () => dismiss(toast));
    const actions = count === 1 && rows.createActions(first);
    node.append(
      count === 1
        ? rows.createSummary(first)
        : dom.createLink("notifications-title", localization.text("summary", { count }), page.inboxUrl),
      button,
      ...(actions ? [actions] : []),
    );
    if (!toasts.length)
      node.append(dom.createElement("span", "notifications-hidden", localization.text("toasts_key")));
    toasts.push(toast);
    element.querySelector(isAlert ? "[role=alert]" : "[role=status]")?.append(node);
    if (!isError && !items.some(rows.isOpenQuestion)) startTimer(toast);
  }

  /**
   * Remove a toast after 8 s. Hover and focus stop the timer; it starts again from 8 s when both have ended.
   * @param {Toast} toast
   */
  function startTimer(toast) {
    const { node } = toast;
    const stop = () => clock.clearTimeout(toast.timer);
    const restart = () => {
      stop();
      if (!node.matches(":hover, :focus-within"))
        toast.timer = clock.setTimeout(() => remove(toast), TOAST_DURATION_MS);
    };
    for (const type of ["mouseenter", "focusin"]) node.addEventListener(type, stop);
    for (const type of ["mouseleave", "focusout"]) node.addEventListener(type, () => setTimeout(restart));
    restart();
  }

  /**
   * F8 moves the focus to the newest toast, and back from the toasts. Escape dismisses a toast.
   * @param {KeyboardEvent} event
   */
  function handleKey(event) {
    const { key, defaultPrevented } = event;
    const focused = document.activeElement;
    if (defaultPrevented || !toasts.length) return;
    if (key === "F8") {
      event.preventDefault();
      if (element.contains(focused)) return returnFocus();
      returnTarget = focused;
      focusNewest();
    }
    if (key !== "Escape" || document.querySelector("[popover]:popover-open, dialog[open]")) return;
    dismiss(toasts.find((toast) => toast.node.contains(focused)) ?? toasts[toasts.length - 1]);
  }

  /** @param {Toast} toast */
  function dismiss(toast) {
    const hadFocus = toast.node.contains(document.activeElement);
    remove(toast);
    if (!hadFocus) return;
    if (toasts.length) focusNewest();
    else returnFocus();
  }

  function focusNewest() {
    const target = toasts.at(-1)?.node.querySelector("a, button");
    /** @type {HTMLElement|null|undefined} */ (target)?.focus();
  }

  function returnFocus() {
    /** @type {HTMLElement|null} */ (returnTarget)?.focus?.();
  }

  /** @param {Toast} toast */
  function remove(toast) {
    clock.clearTimeout(toast.timer);
    toast.node.remove();
    toasts = toasts.filter((other) => other !== toast);
  }
}
