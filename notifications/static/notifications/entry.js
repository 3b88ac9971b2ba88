// Entry module of the template tag: reads the attributes and the JSON that the tag wrote, imports the other modules by their (hashed)
// URLs, and connects them. The modules do not import one another, because hashed static files do not rewrite their imports.
// In a bundle (js/bundle) this module and the others are one file, which then imports itself.

/**
 * Import the modules, define the elements of a signed-in user's page, and connect.
 * @param {HTMLScriptElement} script the one that the template tag wrote
 */
async function load(script) {
  const json = document.getElementById("notifications-data")?.textContent;
  const { modules: urls, lazy_modules: lazyUrls, ...content } = JSON.parse(json ?? "");
  const modules = await importModules(urls);
  const loadModules = (/** @type {string} */ name) => importModules(lazyUrls[name] ?? {});
  const connection = /** @type {import("./connect.js").Connection} */ (
    modules.connect.connect(modules, script.dataset, loadModules)
  );
  if (content.strings)
    modules.notifications.defineElements(modules, connection, script.dataset, content, loadModules);
  connection.start();
  const { client, jobs, stream } = connection;
  const { Problem, RequestRefused, JobFailed, JobCancelled } = /** @type {typeof import("./requests.js")} */ (
    modules.requests
  );
  const [ask, job] = [jobs.ask.bind(jobs), jobs.job.bind(jobs)];
  return { client, ask, job, stream, Problem, RequestRefused, JobFailed, JobCancelled };
}

/**
 * @param {Record<string, string>} urls by module name, or of one bundle
 * @returns {Promise<Record<string, any>>} modules by name
 */
async function importModules(urls) {
  const entries = Object.entries(urls).map(async ([name, url]) => {
    const module = await import(new URL(url, document.baseURI).href);
    return module.modules ?? { [name]: module };
  });
  return Object.assign({}, ...(await Promise.all(entries)));
}

const script = /** @type {HTMLScriptElement|null} */ (
  document.querySelector("script[data-notifications][src]")
);
const page = /** @type {{notifications?: object}} */ (globalThis);
// An element with the id "notifications" is a property of the window, too.
if (script && !("ready" in (page.notifications ?? {}))) {
  /** @type {ReturnType<typeof load>|null} */
  let ready = null;
  const notifications = {
    get ready() {
      ready ??= load(script);
      return ready;
    },
  };
  page.notifications = notifications;
  // On an anonymous page the modules are loaded when they are used first.
  if (script.dataset.sync) void notifications.ready;
}

export {};
