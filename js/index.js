// The public names of the package. Importing them connects nothing: the page is connected when one of them is used first.

import { getConnection } from "./page.js";

export { JobHandle } from "./modules/job_handle.js";
export { JobCancelled, JobFailed, Problem, RequestRefused } from "./modules/requests.js";
export { connect } from "./page.js";

/**
 * @typedef {import("./modules/client.js").JobItem} JobItem
 * @typedef {import("./modules/client.js").Notification} Notification
 * @typedef {import("./modules/client.js").Progress} Progress
 * @typedef {import("./modules/client.js").ProblemDetails} ProblemDetails
 * @typedef {import("./modules/stream.js").StreamState} StreamState
 */

/**
 * Send a request to a view that answers with a job, and return the handle of the job at once.
 * @param {string} url
 * @param {RequestInit} [init] as for fetch(). Its signal ends the request and the waiting; the job goes on.
 * @returns {import("./modules/job_handle.js").JobHandle}
 */
export function ask(url, init) {
  return getConnection().jobs.ask(url, init);
}

/**
 * Return the handle of a job that exists; the same one for the same job while it is active.
 * @param {string|JobItem|Response} source an id, a job, or a response of 202
 * @param {string} [href] where the job is read, if not at the usual address
 * @returns {import("./modules/job_handle.js").JobHandle}
 */
export function job(source, href) {
  return getConnection().jobs.job(source, href);
}

/**
 * The stream of the user: what changes, the counts, and whether the page is connected.
 * @type {Pick<import("./modules/stream.js").UserStream, "on"|"state"|"unread"|"unseen">}
 */
export const stream = {
  on: (type, listener) => getConnection().stream.on(type, listener),
  get state() {
    return getConnection().stream.state;
  },
  get unread() {
    return getConnection().stream.unread;
  },
  get unseen() {
    return getConnection().stream.unseen;
  },
};
