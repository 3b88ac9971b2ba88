// Tells developers in the console if the bell can hardly be seen. Loaded with DEBUG only.

/** What WCAG 2 requires of a drawing. */
const MIN_CONTRAST = 3;

/** Check the bells of the page once, when its style sheets are loaded. */
export async function checkBells() {
  if (document.readyState !== "complete")
    await new Promise((resolve) => addEventListener("load", resolve, { once: true }));
  // Until then the bell waits for the color of the links around it.
  const fades = document.getAnimations().filter((animation) => animation instanceof CSSTransition);
  await Promise.allSettled(fades.map(({ finished }) => finished));
  for (const icon of document.querySelectorAll("notifications-bell .notifications-icon")) {
    const grounds = findGrounds(icon);
    if (!grounds) continue;
    const { color } = getComputedStyle(icon);
    const [dark, light] = [paint(grounds), paint([...grounds, color])]
      .map(readLuminance)
      .sort((a, b) => a - b);
    const contrast = (light + 0.05) / (dark + 0.05);
    if (contrast >= MIN_CONTRAST) continue;
    console.warn(
      `notifications: the bell can hardly be seen. ${color} on ${grounds.at(-1)} has a contrast of ` +
        `${contrast.toFixed(1)}:1, below ${MIN_CONTRAST}:1. Set the property --notifications-bell, or give the bell ` +
        'the class of the links around it: {% notifications class="…" %}.',
    );
  }
}

/**
 * Return the colors that are behind a node, the lowest first, or null if they are not known: an image is behind it, or
 * it may lie over other elements.
 * @param {Element} node
 */
function findGrounds(node) {
  const grounds = [];
  for (let each = node.parentElement; each; each = each.parentElement) {
    const { backgroundColor, backgroundImage, position } = getComputedStyle(each);
    if (backgroundImage !== "none") return null;
    const alpha = paint([backgroundColor])[3];
    if (alpha) grounds.unshift(backgroundColor);
    if (alpha === 255) return grounds;
    if (position !== "static" && position !== "relative") return null;
  }
  return null;
}

/**
 * Paint colors over one another, whatever their notation is, and return red, green, blue and alpha.
 * @param {string[]} colors
 */
function paint(colors) {
  const context = /** @type {OffscreenCanvasRenderingContext2D} */ (
    new OffscreenCanvas(1, 1).getContext("2d")
  );
  for (const color of colors) {
    context.fillStyle = color;
    context.fillRect(0, 0, 1, 1);
  }
  return context.getImageData(0, 0, 1, 1).data;
}

/**
 * Return the relative luminance of WCAG 2.
 * @param {Uint8ClampedArray} pixel
 */
function readLuminance(pixel) {
  const [red, green, blue] = [...pixel].map((value) =>
    value <= 10 ? value / 255 / 12.92 : ((value / 255 + 0.055) / 1.055) ** 2.4,
  );
  return 0.2126 * red + 0.7152 * green + 0.0722 * blue;
}
