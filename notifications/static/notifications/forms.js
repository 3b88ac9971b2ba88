// Sends forms with the attribute data-notifications-send once, and only while the server can be reached: otherwise the
// browser would replace the page, with all that was typed, by an error page.

/** @typedef {import("./notifications.js").Page} Page */

const PROBE_TIMEOUT_MS = 5_000;

/** @param {Page} page */
export function watchForms({ localization, healthUrl, dom }) {
  /** @type {WeakSet<EventTarget>} forms that are being sent */
  let sending = new WeakSet();
  /** The form whose next submit event is the one that sends it. */
  let reachable = /** @type {EventTarget|null} */ (null);

  document.addEventListener("submit", async (event) => {
    const form = /** @type {HTMLFormElement} */ (event.target);
    if (!form.matches("[data-notifications-send]") || event.defaultPrevented) return;
    if (form === reachable) {
      reachable = null;
      return;
    }
    event.preventDefault();
    if (sending.has(form)) return; // A double click sends once.
    sending.add(form);
    showNote(form, form.dataset.notificationsSend ?? "");
    if (await isReachable()) {
      reachable = form;
      form.requestSubmit(event.submitter);
    } else {
      sending.delete(form);
      showNote(form, localization.text("unsent"));
    }
  });

  // A page that comes back from the back-forward cache may send its forms again.
  addEventListener("pageshow", () => {
    sending = new WeakSet();
    for (const note of document.querySelectorAll(".notifications-sending")) note.textContent = "";
  });

  async function isReachable() {
    try {
      const signal = AbortSignal.timeout(PROBE_TIMEOUT_MS);
      return (await fetch(healthUrl, { cache: "no-store", signal })).status < 500;
    } catch {
      return false;
    }
  }

  /**
   * @param {HTMLFormElement} form
   * @param {string} text
   */
  function showNote(form, text) {
    let note = form.querySelector(".notifications-sending");
    if (!note) {
      note = form.appendChild(dom.createElement("p", "notifications-sending"));
      note.role = "status";
    }
    note.textContent = text;
  }
}
