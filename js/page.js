// The connection of the page, which is made when it is used first.

import * as client from "./modules/client.js";
import { connect as connectPage, PLACEHOLDER_ID } from "./modules/connect.js";
import * as connection from "./modules/connection.js";
import * as job_handle from "./modules/job_handle.js";
import * as jobs from "./modules/jobs.js";
import * as polling from "./modules/polling.js";
import * as requests from "./modules/requests.js";
import * as stream from "./modules/stream.js";
import * as tabs from "./modules/tabs.js";

const modules = { client, connection, job_handle, jobs, polling, requests, stream, tabs };

/** @type {import("./modules/connect.js").Connection|null} */
let current = null;

/**
 * Connect a page in which `{% notifications %}` is not rendered, for example of a single-page application. Call it
 * before `ask`, `job` and `stream` are used, and only for a user who is signed in.
 * @param {object} [options]
 * @param {string} [options.url] where notifications.urls is mounted
 * @param {string} [options.socketUrl] of the WebSocket
 * @param {string} [options.csrfCookie] Django's CSRF_COOKIE_NAME
 * @param {string} [options.csrfHeader] the header that Django's CSRF_HEADER_NAME stands for
 */
export function connect({
  url = "/notifications/",
  socketUrl = "/ws/notifications/",
  csrfCookie = "csrftoken",
  csrfHeader = "X-CSRFToken",
} = {}) {
  if (current) throw new Error("The page is connected already. Call connect() before ask, job and stream.");
  const api = `${url}api/`;
  start({
    sync: `${api}sync/`,
    job: `${api}jobs/${PLACEHOLDER_ID}/`,
    socket: socketUrl,
    user: "",
    csrfCookie,
    csrfHeader,
  });
}

/** Return the connection of the page. The user counts as anonymous if the page has no data of a user. */
export function getConnection() {
  return current ?? start(findScript()?.dataset ?? {});
}

/** Return the element with the data that `{% notifications %}` has rendered. */
export function findScript() {
  return /** @type {HTMLScriptElement|null} */ (document.querySelector("script[data-notifications]"));
}

/** Load the modules that few pages need: those of job.on("output") and job.on("question"). */
async function loadModules() {
  const [job_events, output_reader] = await Promise.all([
    import("./modules/job_events.js"),
    import("./modules/output_reader.js"),
  ]);
  return { job_events, output_reader };
}

/** @param {import("./modules/connect.js").PageData} data */
function start(data) {
  current = connectPage(modules, data, loadModules);
  current.start();
  return current;
}
