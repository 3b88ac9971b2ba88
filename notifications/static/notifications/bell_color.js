// The color of the bell: that of the links around it, where the project gives it none.

/** A link is around the bell if both are in the same one of these. */
const BARS = "nav, header, [role='navigation'], [role='banner']";

/**
 * Give the bell the color of the links around it, and again when the theme of the page or the bar changes.
 * @param {HTMLElement} element
 * @param {AbortSignal} signal aborted when the element is removed
 */
export function followLinks(element, signal) {
  const bar = element.closest(BARS) ?? element.parentElement ?? element;
  const update = async () => {
    const link = findLink(element, bar);
    // A theme may fade in.
    const fades = (link?.getAnimations() ?? []).filter((animation) => animation instanceof CSSTransition);
    await Promise.allSettled(fades.map(({ finished }) => finished));
    element.style.color = "";
    if (link && !hasOwnColor(element)) element.style.color = getComputedStyle(link).color;
  };
  const observer = new MutationObserver(update);
  for (const node of [document.documentElement, document.body, bar])
    observer.observe(node, { attributes: true });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", update, { signal });
  signal.addEventListener("abort", () => observer.disconnect());
  void update();
}

/**
 * Return the last link before the bell, or the first one after it, that is drawn as text and is not the current page.
 * @param {HTMLElement} element
 * @param {Element} bar
 */
function findLink(element, bar) {
  const links = [...bar.querySelectorAll("a[href]:not([aria-current])")].filter(
    (link) =>
      !link.closest("notifications-bell, notifications-panel, notifications-toasts") &&
      link.checkVisibility() &&
      /^rgba\(.+, 0\)$/.test(getComputedStyle(link).backgroundColor),
  );
  const isBefore = (/** @type {Element} */ link) =>
    link.compareDocumentPosition(element) & Node.DOCUMENT_POSITION_FOLLOWING;
  return links.findLast(isBefore) ?? links[0];
}

/**
 * Return whether a rule of the project, such as one of a class of the tag, gives the bell a color.
 * @param {HTMLElement} element
 */
function hasOwnColor(element) {
  const { parentElement } = element;
  return parentElement && getComputedStyle(element).color !== getComputedStyle(parentElement).color;
}
