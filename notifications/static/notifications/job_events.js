// The listeners of a job that few pages need: job.on("question") and job.on("output").

/**
 * @typedef {import("./client.js").Waiting & {answer: (value: any) => Promise<any>}} Question
 * @typedef {import("./job_handle.js").FollowedJob} FollowedJob
 * @typedef {object} Options
 * @property {import("./client.js").Client} client
 * @property {import("./jobs.js").Jobs} jobs
 * @property {import("./connection.js").Clock} clock
 * @property {(id: string) => string} jobUrl
 * @property {AbortSignal} signal removes the listener
 */

/**
 * Call a listener with each question that a job asks, or with each part of its output.
 * @param {FollowedJob} job
 * @param {"output"|"question"} type
 * @param {(detail: any) => void} listener
 * @param {Options} options
 * @param {{output_reader: typeof import("./output_reader.js")}} modules
 */
export function listen(job, type, listener, options, { output_reader }) {
  if (type === "question") listenToQuestions(job, listener, options);
  else listenToOutput(job, listener, options, output_reader).catch(() => undefined); // The promises of the handle tell why.
}

/**
 * @param {FollowedJob} job
 * @param {(question: Question) => void} listener
 * @param {Options} options
 */
function listenToQuestions(job, listener, { jobs, signal }) {
  /** @type {string|undefined} */
  let asked;
  const update = (/** @type {import("./client.js").JobItem|null} */ item) => {
    const waiting = item?.waiting;
    if (waiting?.kind !== "question" || waiting.id === asked) return;
    asked = waiting.id;
    const answer = (/** @type {any} */ value) => {
      const headers = { "Content-Type": "application/json" };
      const body = JSON.stringify(waiting.choices ? { value } : value);
      return jobs.send(waiting.links.answer ?? "", { method: "POST", headers, body });
    };
    listener({ ...waiting, answer });
  };
  const remove = job.on("change", update);
  signal.addEventListener("abort", remove);
  if (!signal.aborted) update(job.item);
}

/**
 * @param {FollowedJob} job
 * @param {(part: import("./output_reader.js").OutputPart) => void} listener
 * @param {Options} options
 * @param {typeof import("./output_reader.js")} module
 */
async function listenToOutput(job, listener, { client, jobs, clock, jobUrl, signal }, { readOutput }) {
  const id = await job.acceptance.promise;
  if (!id) return; // The response was the result.
  const take = (/** @type {import("./output_reader.js").OutputPart[]} */ parts) =>
    parts.forEach((part) => void listener(part));
  readOutput({ id, url: jobUrl(id), client, jobs, clock, signal, take });
}
