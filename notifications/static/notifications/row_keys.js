// What keys do in the open bell and the inbox (shortcuts.js): loaded with the first of them that is pressed. And which row is
// beside another one.

/**
 * Listen to keys. Return the listener, to which the button that shows them is connected too, and what finds rows.
 * @param {import("./notifications.js").Page} page
 */
export function connectKeys(page) {
  let shortcuts = /** @type {typeof import("./shortcuts.js")|undefined} */ (undefined);
  let loading = /** @type {Promise<any>|null} */ (null);
  document.addEventListener("keydown", handleKey);
  return { handleKey, findBeside };

  /** @param {Event} event */
  async function handleKey(event) {
    if (!document.querySelector("notifications-inbox, .notifications-panel:popover-open")) return;
    // One promise for all: what is pressed meanwhile is done in its order.
    loading ??= page.loadModules("shortcuts").catch(() => {
      loading = null;
    });
    shortcuts ??= (await loading)?.shortcuts;
    shortcuts?.handleEvent(event, page);
  }
}

/**
 * Return the row that is shown below another one of a list, or above it. Rows farther away are not looked at: the list may be
 * long.
 * @param {HTMLElement} list the panel of the bell, or the inbox
 * @param {HTMLElement|null} row null for the first one
 * @param {"nextNode"|"previousNode"} [side]
 */
function findBeside(list, row, side = "nextNode") {
  const walker = document.createTreeWalker(list, NodeFilter.SHOW_ELEMENT, (node) => {
    const { localName, hidden } = /** @type {HTMLElement} */ (node);
    if (localName !== "li") return NodeFilter.FILTER_SKIP;
    return hidden ? NodeFilter.FILTER_REJECT : NodeFilter.FILTER_ACCEPT;
  });
  walker.currentNode = row ?? list;
  return /** @type {HTMLElement|null} */ (walker[row ? side : "nextNode"]());
}
