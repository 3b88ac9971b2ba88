// What pressing an action of a notification does: it is sent in place, and its button shows what came of it. What is
// dangerous, also a button of a form, is confirmed in a dialog.

/** @typedef {import("./notifications.js").Page} Page */

/** Addresses of the pages of the actions that are done. A list that is drawn again shows it. */
const done = new Set();
/** Addresses of those that are being sent, and of the questions that are answered. */
const busy = new Set();

/** Of a proxy that has got no response from the view, which may have done the action. */
const GATEWAY_ERRORS = [502, 504];

/** @param {Page} page */
export function watchActions(page) {
  document.addEventListener("click", (event) => {
    const link = /** @type {HTMLAnchorElement|null} */ (
      /** @type {Element} */ (event.target).closest("[data-answer], [data-post], button[data-danger]")
    );
    // Pressed with Ctrl, for a new tab, it is a link to its page.
    if (!link || event.ctrlKey || event.metaKey || event.shiftKey) return;
    event.preventDefault();
    if (link instanceof HTMLButtonElement) void submit(link, page);
    else if (!busy.has(link.href)) void press(link, page);
  });
  document.addEventListener("keydown", (event) => {
    const button = /** @type {HTMLElement} */ (event.target);
    if (event.key !== " " || !button.matches("a[role=button]")) return;
    event.preventDefault();
    button.click();
  });
  restoreDone(document, page);
  page.client.on("change", ({ notifications }) => {
    for (const { id, data } of notifications) rememberDone(id, data.actions, page);
    if (done.size) restoreDone(document, page);
  });
}

/**
 * Remember which of the actions of a notification the server says is done.
 * @param {string} id
 * @param {any} actions
 * @param {Page} page
 */
export function rememberDone(id, actions, page) {
  if (!Array.isArray(actions)) return;
  for (const [number, action] of actions.entries())
    if (Object(action).done) done.add(new URL(page.getActionUrl(id, number), location.href).href);
}

/**
 * Send a form by a button whose danger is confirmed.
 * @param {HTMLButtonElement} button
 * @param {Page} page
 */
async function submit(button, page) {
  const { form } = button;
  if (!form || !(await confirm(button, button.dataset.danger ?? "", page))) return;
  const confirmed = page.dom.createElement("input");
  Object.assign(confirmed, { type: "hidden", name: "confirmed", value: "1" });
  form.append(confirmed);
  form.requestSubmit(button);
}

/**
 * @param {HTMLAnchorElement} link
 * @param {Page} page
 */
async function press(link, page) {
  const { href } = link;
  const { answer, post, danger } = link.dataset;
  // Another list may have drawn it before it was done.
  if (done.has(href)) return restoreDone(document, page);
  if (danger && !(await confirm(link, danger, page))) return;
  busy.add(href);
  link.ariaBusy = "true"; // It hides the problem of the last try.
  try {
    if (answer) {
      await page.answer(answer);
      link.ariaDisabled = "true"; // And it stays among the busy ones: a second answer is refused.
    } else {
      await send(link, post ?? "", page);
      busy.delete(href);
    }
  } catch (error) {
    busy.delete(href);
    // An answer that is refused is shown on the page of the question, which says who was first.
    if (answer && !(error instanceof TypeError)) location.assign(href);
    else if (answer) showProblem(link, page.localization.text("unsent"), page);
    // The request may have arrived: the network has failed after it, or the view has redirected to another origin.
    else
      showProblem(
        link,
        page.dom.createLink("", page.localization.text("unknown"), new URL("../../", href).href),
        page,
      );
  }
  link.ariaBusy = null;
}

/**
 * @param {HTMLAnchorElement} link
 * @param {string} url of the project
 * @param {Page} page
 */
async function send(link, url, page) {
  const status = page.dom.createElement("span", "notifications-hidden");
  status.role = "status";
  link.after(status);
  const response = await page.jobs.request(url, { method: "POST" });
  if (response.ok) {
    done.add(link.href);
    restoreDone(document, page);
    status.textContent = page.localization.text("done");
    // The row keeps it, and is read. If that fails, it is read at least.
    const refresh = () => page.client.refresh();
    page.jobs.send(link.href, { method: "POST" }).then(refresh, () => markRead(link, page));
  } else if (response.headers.get("Content-Type")?.startsWith("application/problem+json")) {
    const { detail, title } = await response.json();
    showProblem(link, detail || title, page);
  } else if (GATEWAY_ERRORS.includes(response.status)) throw new Error("No response.");
  else if (response.status < 400 || response.status === 401 || response.redirected)
    location.assign(link.href);
  else showProblem(link, page.localization.text("refused", { status: response.status }), page);
}

/**
 * Show in the actions of a notification which one is done. With this script those that send something are buttons.
 * @param {ParentNode} list
 * @param {Page} page
 */
export function restoreDone(list, page) {
  /** @type {NodeListOf<HTMLAnchorElement>} */
  const links = list.querySelectorAll("a:is([data-post], [data-answer]):not([aria-disabled])");
  for (const link of links) {
    link.role = "button";
    if (done.has(link.href)) showDone(link, page);
  }
}

/**
 * Show that an action is done, without those beside it that post.
 * @param {HTMLAnchorElement} link
 * @param {Page} page
 */
function showDone(link, { rows, icons }) {
  link.dispatchEvent(new Event("notifications:action-done", { bubbles: true }));
  link.ariaDisabled = "true";
  link.prepend(rows.createIcon(icons.success));
  for (const other of link.parentElement?.querySelectorAll("[data-post]") ?? [])
    if (other !== link) other.remove();
}

/**
 * Mark the notification of an action as read.
 * @param {HTMLAnchorElement} link
 * @param {Page} page
 */
function markRead(link, { client, mark }) {
  const id = /[\da-f-]{36}(?=\/actions\/)/.exec(link.href)?.[0];
  const raised = client.stream.cursor;
  if (id && raised !== null) void mark("read", [{ id, raised }]).catch(() => undefined);
}

/**
 * Show why an action was not done beside its button.
 * @param {HTMLAnchorElement} link
 * @param {string|Node} problem
 * @param {Page} page
 */
function showProblem(link, problem, { dom }) {
  let note = link.parentElement?.querySelector(".notifications-problem");
  if (!note) {
    note = dom.createElement("p", "notifications-problem");
    note.role = "alert";
    link.parentElement?.append(note);
  }
  note.replaceChildren(problem);
}

/**
 * Ask in a dialog, whose heading is what is lost.
 * @param {HTMLElement} link
 * @param {string} consequence
 * @param {Page} page
 * @returns {Promise<boolean>} whether the action is to be done
 */
function confirm(link, consequence, { dom, localization }) {
  const dialog = dom.createElement("dialog", "notifications-consequence");
  const choices = dom.createElement("div");
  const create = (/** @type {string} */ kind, /** @type {string} */ text, /** @type {string} */ value) => {
    const button = dom.createElement("button", kind, text);
    button.addEventListener("click", () => dialog.close(value));
    return button;
  };
  choices.append(
    create("notifications-plainbutton", localization.text("cancel"), ""),
    create("notifications-mainbutton notifications-danger", link.textContent ?? "", "yes"),
  );
  dialog.ariaLabel = consequence;
  dialog.append(dom.createElement("h2", "", consequence), choices);
  link.parentElement?.append(dialog);
  dialog.showModal();
  return new Promise((resolve) => {
    dialog.addEventListener("close", () => {
      dialog.remove();
      link.focus();
      resolve(dialog.returnValue === "yes");
    });
  });
}
