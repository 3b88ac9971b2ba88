// The field "Find in output" above the text of <notifications-output>: it marks what it finds, and nothing of the text is
// changed, so that the browser's own search goes on to work. It finds what is loaded.

/** Of more matches only so many are marked besides the current one; all are counted. */
const MAX_MARKED = 2_000;
const FOUND = "notifications-found";
const CURRENT = "notifications-current";

/**
 * @param {HTMLFormElement} form
 * @param {HTMLElement} element that has an event for each text
 * @param {HTMLElement} box that scrolls
 * @param {AbortSignal} signal
 */
export function connectSearch(form, element, box, signal) {
  const field = /** @type {HTMLInputElement} */ (form.querySelector("input"));
  const status = /** @type {HTMLElement} */ (form.querySelector("[role=status]"));
  const buttons = form.querySelectorAll("button");
  const [previous] = buttons;
  /** @type {Range[]} */
  let matches = [];
  let current = 0;
  let timer = 0;

  /** Return the ranges of the text that the field asks for, in their order, without regard to case. */
  function findMatches() {
    const words = field.value.replace(/[\\^$.*+?()[\]{}|/]/g, "\\$&");
    if (!words) return [];
    const nodes = document.createTreeWalker(box, NodeFilter.SHOW_TEXT);
    let node = nodes.nextNode();
    let start = 0; // of the node in the text
    /** @param {number} place @param {(offset: number) => void} use @param {number} [before] */
    const locate = (place, use, before = 0) => {
      while (node && place > start + (node.nodeValue?.length ?? 0) - before) {
        start += node.nodeValue?.length ?? 0;
        node = nodes.nextNode();
      }
      use(place - start);
    };
    return [...(box.textContent ?? "").matchAll(new RegExp(words, "giu"))].map(({ index, 0: text }) => {
      const range = new Range();
      locate(index, (offset) => node && range.setStart(node, offset), 1);
      locate(index + text.length, (offset) => node && range.setEnd(node, offset));
      return range;
    });
  }

  function search() {
    timer = 0;
    matches = findMatches();
    current = Math.min(current, Math.max(matches.length - 1, 0));
    show();
  }

  function show() {
    const range = matches[current];
    if ("highlights" in CSS) {
      CSS.highlights.set(FOUND, new Highlight(...matches.slice(0, MAX_MARKED)));
      const mark = range ? new Highlight(range) : new Highlight();
      mark.priority = 1;
      CSS.highlights.set(CURRENT, mark);
    }
    const words = form.dataset.count ?? "";
    const text = words
      .replace("{current}", String(range ? current + 1 : 0))
      .replace("{total}", String(matches.length));
    status.textContent = field.value && text;
    for (const button of buttons) button.disabled = !range;
  }

  /** @param {number} by */
  function move(by) {
    if (!matches.length) return;
    current = (current + by + matches.length) % matches.length;
    show();
    scroll();
  }

  function scroll() {
    const range = matches[current];
    if (!range) return;
    const { top, height } = box.getBoundingClientRect();
    box.scrollTop += range.getBoundingClientRect().top - top - height / 2;
  }

  field.addEventListener("input", () => {
    current = 0;
    search();
    scroll();
  });
  field.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && event.shiftKey) move(-1);
    else if (event.key === "Escape" && field.value) {
      field.value = "";
      search();
    } else return;
    event.preventDefault();
  });
  previous?.addEventListener("click", () => move(-1));
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    move(1);
  });
  element.addEventListener("notifications:output", () => {
    if (field.value) timer ||= window.setTimeout(search, 200);
  });
  signal.addEventListener("abort", () => {
    clearTimeout(timer);
    field.value = "";
    search();
  });
  form.hidden = false;
  show();
}
