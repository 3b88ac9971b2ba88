// The page of preferences: saves what is changed at once, and offers to undo it. Without this script a button saves the form.

/** @typedef {HTMLInputElement|HTMLSelectElement} Control */
/** @typedef {"saved"|"undone"|"unsaved"|"refused"} TextKey */

function connectPreferences() {
  const form = /** @type {HTMLFormElement|null} */ (
    document.querySelector("[data-notifications-preferences]")
  );
  const save = form?.querySelector("[data-save]");
  if (!form || !save) return;
  const message = /** @type {HTMLElement} */ (form.querySelector("[role=status]"));
  /** What is stored, by the names of the controls. @type {Map<string, string>} */
  const stored = new Map();
  /** The last request: they are sent one after another, so that the last change wins. */
  let last = Promise.resolve();

  for (const control of controls()) stored.set(control.name, read(control));
  save.remove();
  form.addEventListener("change", (event) => {
    const control = /** @type {Control} */ (event.target);
    if (!stored.has(control.name)) return;
    if (control.reportValidity()) change(namesWith(control.name), "saved");
  });
  form.addEventListener("click", (event) => {
    const button = /** @type {Element} */ (event.target).closest("[name=nights]");
    if (!button) return;
    event.preventDefault();
    const [begin = "", end = ""] = /** @type {HTMLButtonElement} */ (button).value.split(" ");
    const names = namesWith("quiet_");
    show(
      new Map(
        names.map((name) => [name, name.includes("_on") ? "on" : name.includes("_from") ? begin : end]),
      ),
    );
    change(names, "saved");
  });

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
   * Return the names of the controls that are stored together.
   * @param {string} name
   */
  function namesWith(name) {
    return name.startsWith("quiet_")
      ? [...stored.keys()].filter((each) => each.startsWith("quiet_"))
      : [name];
  }

  /**
   * @param {string[]} names
   * @param {TextKey} done
   */
  function change(names, done) {
    const before = new Map(names.map((name) => [name, stored.get(name) ?? ""]));
    const after = new Map(
      controls()
        .filter(({ name }) => before.has(name))
        .map((each) => [each.name, read(each)]),
    );
    last = last.then(() => store(before, after, done));
  }

  /**
   * @param {Map<string, string>} before
   * @param {Map<string, string>} after
   * @param {TextKey} done
   */
  async function store(before, after, done) {
    try {
      const response = await fetch(/** @type {HTMLFormElement} */ (form).action, {
        method: "POST",
        body: encode(after),
        redirect: "manual", // to this page, which need not be loaded
      });
      if (response.type !== "opaqueredirect") return fail(before, "refused");
    } catch {
      return fail(before, "unsaved");
    }
    for (const [name, value] of after) stored.set(name, value);
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
    const body = new URLSearchParams({
      csrfmiddlewaretoken: String(all.get("csrfmiddlewaretoken") ?? ""),
    });
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
  }

  /**
   * @param {Map<string, string>} before
   * @param {TextKey} reason
   */
  function fail(before, reason) {
    show(before);
    say(reason);
  }

  /** @param {TextKey} key */
  function say(key) {
    const text = document.createElement("p");
    text.textContent = form?.dataset[key] ?? "";
    message.replaceChildren(text);
  }
}

connectPreferences();

export {};
