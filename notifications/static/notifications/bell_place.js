// Where the panel of the bell is: below its button, or above it where there is more room, and inside the window.

const MARGIN_PX = 8;
/** Where less is free below the button, the panel is above it if there is more. */
const MIN_HEIGHT_PX = 320;

/**
 * Place the panel each time that it opens, and when the window changes; a style sheet does not know where the button is.
 * @param {HTMLElement} panel
 * @param {HTMLElement} button
 * @param {AbortSignal} signal aborted when the bell is removed
 */
export function keepPlaced(panel, button, signal) {
  panel.addEventListener("toggle", place);
  addEventListener("resize", place, { signal });

  function place() {
    if (!panel.matches(":popover-open")) return;
    const { left, right, top, bottom } = button.getBoundingClientRect();
    const { clientWidth, clientHeight } = document.documentElement;
    const [above, below] = [top, clientHeight - bottom].map((space) => space - 2 * MARGIN_PX);
    const isAbove = below < MIN_HEIGHT_PX && above > below;
    const width = panel.offsetWidth;
    const start = getComputedStyle(button).direction === "rtl" ? left : right - width;
    Object.assign(panel.style, {
      left: `${Math.max(MARGIN_PX, Math.min(start, clientWidth - width - MARGIN_PX))}px`,
      top: isAbove ? "auto" : `${Math.max(0, bottom) + MARGIN_PX}px`,
      bottom: isAbove ? `${clientHeight - Math.min(top, clientHeight) + MARGIN_PX}px` : "auto",
      maxHeight: `min(44rem, ${Math.min(isAbove ? above : below, clientHeight - 2 * MARGIN_PX)}px)`,
    });
  }
}
