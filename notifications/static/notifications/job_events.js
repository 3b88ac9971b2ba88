// The listeners of a job that few pages need: job.on("question") and job.on("output").

/**
 * @typedef {import("./client.js").Waiting & {answer: (value: any) => Promise<any>}} Question
 * @typedef {import("./job_handle.js").FollowedJob} FollowedJob
 * @typedef {object} Options
 * @property {import("./client.js").Client} client
 * @property {import("./jobs.js").Jobs} jobs
 * @property {import("./connection.js").Clock} clock
 * @property {(id: string) => string} jobUrl "" on anonymous pages
 * @property {typeof import("./requests.js")} errors
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
  if (options.signal.aborted) return;
  if (type === "question") listenToQuestions(job, listener, options);
  else listenToOutput(job, listener, options, output_reader).catch(() => undefined); // The promises of the handle tell why.
}

/**
 * @param {FollowedJob} job
 * @param {(question: Question) => void} listener
 * @param {Options} options
 */
function listenToQuestions(job, listener, { jobs, errors, signal }) {
  /** @type {string|undefined} */
  let asked;
  const update = (/** @type {import("./client.js").JobItem|null} */ item) => {
    const waiting = item?.waiting;
    if (waiting?.kind !== "question" || waiting.id === asked) return;
    asked = waiting.id;
    const { choices, links } = waiting;
    const answer = async (/** @type {any} */ value) => {
      if (!links.answer) {
        const detail = "You may not answer this question.";
        throw new errors.RequestRefused({ type: "about:blank", title: "Not Found", status: 404, detail });
      }
      const headers = { "Content-Type": "application/json" };
      const body = JSON.stringify(choices ? { value } : value);
      return jobs.send(links.answer, { method: "POST", headers, body });
    };
    listener({ ...waiting, answer });
  };
  const remove = job.on("change", update);
  signal.addEventListener("abort", remove);
  update(job.item);
}

/**
 * @param {FollowedJob} job
 * @param {(part: import("./output_reader.js").OutputPart) => void} listener
 * @param {Options} options
 * @param {typeof import("./output_reader.js")} module
 */
async function listenToOutput(job, listener, { client, jobs, clock, jobUrl, signal }, { readOutput }) {
  const id = await job.acceptance.promise;
  // Without an id the response was the result.
  if (!id || !jobUrl(id) || signal.aborted) return;
  /** @type {import("./output_reader.js").Take} */
  const take = (parts) => {
    // One by one: an error of the listener costs it no other part.
    for (const part of parts) queueMicrotask(() => signal.aborted || listener(part));
  };
  readOutput({ id, url: jobUrl(id), client, jobs, clock, signal, take });
}
