// The color of the bell: that of the links around it, where the project gives it none.

/** A link is around the bell if both are in the same one of these. */
const BARS = "nav, header, [role='navigation'], [role='banner']";

/** Or in the same list, if they are in none of them. */
const LISTS = "ul, ol, menu, [role='menubar'], [role='list']";

/**
 * Give the bell the color of the links around it, and again when the theme of the page or the bar changes. Its number has
 * the colors of dark pages beside light links: the bar is dark then, whatever the page is.
 * @param {HTMLElement} element
 * @param {AbortSignal} signal aborted when the element is removed
 */
export function followLinks(element, signal) {
  const bar = element.closest(BARS) ?? element.closest(LISTS) ?? element.parentElement ?? element;
  const { style } = element;
  const update = async () => {
    const link = findLink(element, bar);
    // A theme may fade in.
    const fades = (link?.getAnimations() ?? []).filter((animation) => animation instanceof CSSTransition);
    await Promise.allSettled(fades.map(({ finished }) => finished));
    style.color = style.colorScheme = "";
    if (link && !hasOwnColor(element)) style.color = getComputedStyle(link).color;
    const { color } = getComputedStyle(/** @type {Element} */ (element.querySelector("svg")));
    const [first, green, blue] = (color.match(/[\d.]+/g) ?? []).map(Number);
    // Such as rgb(205 205 205) or oklch(0.87 0 0).
    if (color.startsWith("rgb") ? first + green + blue > 450 : first > 0.6) style.colorScheme = "dark";
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
  const parent = /** @type {Element} */ (element.parentElement);
  return getComputedStyle(element).color !== getComputedStyle(parent).color;
}
