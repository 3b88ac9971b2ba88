// What keys do in the open bell and the inbox (shortcuts.js): loaded with the first of them that is pressed.

/**
 * Listen to keys. Return the listener, to which the button that shows them is connected too.
 * @param {import("./notifications.js").Page} page
 */
export function listenToKeys(page) {
  let shortcuts = /** @type {typeof import("./shortcuts.js")|undefined} */ (undefined);
  let loading = /** @type {Promise<any>|null} */ (null);
  document.addEventListener("keydown", handleKey);
  return handleKey;

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
