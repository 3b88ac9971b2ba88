// Shows the notification in the places in which recipients see it, and how many they are, as one types. Without it the
// button "Preview" does the same.

const PAUSE_MS = 300;

const form = /** @type {HTMLFormElement} */ (document.querySelector("[data-preview]"));
const places = /** @type {HTMLElement} */ (form.querySelector("[data-composer-places]"));
const status = /** @type {HTMLElement} */ (form.querySelector("[role=status]"));
/** @type {any} */
let timer;
let controller = new AbortController();

/** The count is announced by screen readers when it changes, the rest is not. */
function announce() {
  const count = places.querySelector("[data-composer-count]");
  const text = count?.textContent?.trim() ?? "";
  count?.remove();
  if (status.textContent !== text) status.textContent = text;
}

async function show() {
  controller.abort();
  controller = new AbortController();
  const { signal } = controller;
  try {
    const response = await fetch(form.dataset.preview ?? "", {
      method: "POST",
      body: new FormData(form),
      redirect: "error",
      signal,
    });
    if (!response.ok) return; // What was shown stays; the button says what is wrong.
    const parsed = new DOMParser().parseFromString(await response.text(), "text/html");
    if (signal.aborted) return;
    places.replaceChildren(...parsed.body.childNodes);
    announce();
  } catch {
    // A newer request has ended this one, or the server is away.
  }
}

function plan() {
  clearTimeout(timer);
  timer = setTimeout(show, PAUSE_MS);
}

announce();
form.addEventListener("input", plan);
form.addEventListener("change", plan);
// The browser may have kept what was typed over a reload.
addEventListener("pageshow", plan);
