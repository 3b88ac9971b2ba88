// Shows the notification in the places in which recipients see it, and how many they are, as one types. Without it the
// button "Preview" does the same.

const PAUSE_MS = 300;

const form = /** @type {HTMLFormElement} */ (document.querySelector("[data-preview]"));
const places = /** @type {HTMLElement} */ (form.querySelector("[data-composer-places]"));
const status = /** @type {HTMLElement} */ (form.querySelector("[role=status]"));
/** @type {any} */
let timer;
let request = new XMLHttpRequest();

/** The count is announced by screen readers when it changes, the rest is not. */
function announce() {
  const count = places.querySelector("[data-composer-count]");
  const text = count?.textContent?.trim() ?? "";
  count?.remove();
  if (status.textContent !== text) status.textContent = text;
}

function show() {
  request.abort();
  // The browser parses the response: a policy with require-trusted-types-for lets no script parse a text.
  request = new XMLHttpRequest();
  const url = new URL(form.dataset.preview ?? "", location.href).href;
  request.open("POST", url);
  request.responseType = "document";
  request.onload = ({ target }) => {
    const { status, responseXML, responseURL } = /** @type {XMLHttpRequest} */ (target);
    // What was shown stays; the button says what is wrong, or leads to the page to sign in, as a redirect does.
    if (status !== 200 || !responseXML || responseURL !== url) return;
    places.replaceChildren(...responseXML.body.childNodes);
    announce();
  };
  request.send(new FormData(form));
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
