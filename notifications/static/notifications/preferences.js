// <notifications-preferences>: saves what is changed at once, and offers to undo it. Without this script a button saves the form.

/** @typedef {import("./notifications.js").Page} Page */
/** @typedef {HTMLInputElement|HTMLSelectElement} Control */
/** @typedef {"saved"|"undone"|"unsaved"|"refused"|"signedOut"} TextKey */

/**
 * @param {HTMLElement} element
 * @param {Page} page
 * @param {AbortSignal} signal aborted when the element is removed
 */
export function connectElement(element, page, signal) {
  const form = element.querySelector("form");
  const save = form?.querySelector("[data-save]");
  if (!form || !save) return;
  const draftKey = `${page.name}:preferences`;
  const message = /** @type {HTMLElement} */ (form.querySelector("[role=status]"));
  /** What is stored, by the names of the controls. @type {Map<string, string>} */
  const stored = new Map();
  /** The last request: they are sent one after another, so that the last change wins. */
  let last = Promise.resolve();
  /** The names of what was changed while the user was signed out. @type {Set<string>} */
  let unsaved = new Set();

  const zone = /** @type {HTMLSelectElement|null} */ (form.querySelector("[name=time_zone]"));
  const ownZone = Intl.DateTimeFormat().resolvedOptions().timeZone;
  const hasOwnZone = [...(zone?.options ?? [])].some(({ value }) => value === ownZone);

  for (const control of controls()) stored.set(control.name, read(control));
  showPlace();
  save.remove();
  form.addEventListener("change", (event) => {
    const control = /** @type {Control} */ (event.target);
    if (!stored.has(control.name)) return;
    showPlace();
    if (control.reportValidity()) change(namesWith(control.name), "saved");
  });
  form.addEventListener("click", (event) => {
    const button = /** @type {Element} */ (event.target).closest("[name=nights]");
    if (!button) return;
    event.preventDefault();
    const [begin = "", end = ""] = /** @type {HTMLButtonElement} */ (button).value.split(" ");
    const values = { quiet_on: "on", quiet_from: begin, quiet_to: end, time_zone: ownZone };
    const names = namesWith("quiet_");
    show(new Map(names.map((name) => [name, values[/** @type {"quiet_on"} */ (name.split(".")[0])]])));
    change(names, "saved");
  });
  signal.addEventListener(
    "abort",
    page.client.on("state", (state) => {
      // The user has signed in again, in another tab: as the inbox does.
      if (unsaved.size && (state === "live" || state === "polling")) location.reload();
    }),
  );
  restore();

  /** Return the controls of the form that are saved. */
  function controls() {
    const all = /** @type {Control[]} */ ([...(form?.elements ?? [])]);
    return all.filter(({ name, type }) => name && type !== "hidden" && !type.startsWith("submit"));
  }

  /** @param {Control} control */
  function read(control) {
    if (control.type !== "checkbox") return control.value;
    return /** @type {HTMLInputElement} */ (control).checked ? "on" : "off";
  }

  /**
   * Return the names of the controls that are stored together: with the first quiet hours the zone of the browser, where none
   * was chosen.
   * @param {string} name
   */
  function namesWith(name) {
    if (!name.startsWith("quiet_")) return [name];
    const names = [...stored.keys()].filter((each) => each.startsWith("quiet_"));
    if (!zone || !offersOwnZone()) return names;
    zone.value = ownZone;
    return [...names, zone.name];
  }

  function offersOwnZone() {
    const hasHours = [...stored].some(([name, value]) => name.startsWith("quiet_on") && value === "on");
    return hasOwnZone && !hasHours && !zone?.value;
  }

  /** Say in which place the quiet hours are: that of the zone that is chosen, or is offered. */
  function showPlace() {
    /** @type {NodeListOf<HTMLElement>} */
    const places = element.querySelectorAll("[data-zone]");
    for (const place of places) {
      const name = (offersOwnZone() && ownZone) || zone?.value || place.dataset.zone;
      place.textContent = `${name}`.replace(/.*\//, "").replaceAll("_", " ");
    }
  }

  /**
   * @param {string[]} names
   * @param {TextKey} done
   */
  function change(names, done) {
    last = last.then(() => store(new Set([...names, ...unsaved]), done));
  }

  /**
   * @param {Set<string>} names
   * @param {TextKey} done
   */
  async function store(names, done) {
    const before = new Map([...names].map((name) => [name, stored.get(name) ?? ""]));
    const after = new Map(
      controls()
        .filter(({ name }) => names.has(name))
        .map((each) => [each.name, read(each)]),
    );
    try {
      await page.jobs.sendForm(/** @type {HTMLFormElement} */ (form).action, encode(after));
    } catch (error) {
      const { status } = /** @type {any} */ (error);
      if (status === 401) return keep(after);
      show(before);
      return say(status ? "refused" : "unsaved");
    }
    keep(new Map());
    for (const [name, value] of after) stored.set(name, value);
    showPlace();
    say(done);
    if (done === "undone") return;
    const undo = document.createElement("button");
    undo.type = "button";
    undo.className = "notifications-quiet";
    undo.textContent = form?.dataset.undo ?? "";
    undo.addEventListener("click", () => {
      show(before);
      change([...before.keys()], "undone");
    });
    message.append(undo);
  }

  /**
   * Return the body of a request with these controls only: others may have been changed on another page.
   * @param {Map<string, string>} values
   */
  function encode(values) {
    const all = new FormData(/** @type {HTMLFormElement} */ (form));
    const body = new URLSearchParams();
    for (const [name, value] of values) {
      const [field, number = ""] = name.split(".");
      if (name.startsWith("quiet_")) body.set("quiet", "1");
      const key = all.getAll("category")[Number(number)];
      const isCell = number && !name.startsWith("quiet_");
      if (isCell) body.set("category", String(key));
      body.set(isCell ? `${field}.0` : name, value);
    }
    return body;
  }

  /** @param {Map<string, string>} values */
  function show(values) {
    for (const control of controls()) {
      const value = values.get(control.name);
      if (value === undefined) continue;
      if (control.type === "checkbox") /** @type {HTMLInputElement} */ (control).checked = value === "on";
      else control.value = value;
    }
    showPlace();
  }

  /**
   * Keep what was chosen while the user is signed out, until they are back on this page.
   * @param {Map<string, string>} values
   */
  function keep(values) {
    unsaved = new Set(values.keys());
    try {
      sessionStorage.setItem(draftKey, JSON.stringify([...values]));
    } catch {
      // Storage is blocked: it is shown until the page is left.
    }
    if (!values.size) return;
    say("signedOut");
    message.firstElementChild?.append(" ", page.createSignInLink());
  }

  /** Save what was chosen while the user was signed out. */
  function restore() {
    try {
      const values = new Map(JSON.parse(sessionStorage.getItem(draftKey) ?? "[]"));
      if (!values.size) return;
      show(values);
      change([...values.keys()], "saved");
    } catch {
      // Storage is blocked.
    }
  }

  /** @param {TextKey} key */
  function say(key) {
    const text = document.createElement("p");
    text.textContent = form?.dataset[key] ?? "";
    message.replaceChildren(text);
  }
}
