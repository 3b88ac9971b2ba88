import assert from "node:assert/strict";
import { test } from "node:test";
import * as job_events from "../../notifications/static/notifications/job_events.js";
import { JOB, job, settled } from "./fakes.js";
import { livePage } from "./page.js";

const ANSWER = `/n/api/jobs/${JOB}/answers/1/`;
const asking = (version, id = "1", values = {}) =>
  job(version, {
    state: "waiting",
    waiting: {
      id,
      kind: "question",
      title: "Ship?",
      expires_at: null,
      choices: { yes: "Ship" },
      links: { answer: ANSWER, page: "/n/jobs/1/" },
      ...values,
    },
  });
const sendJob = (page, item) => page.last().receive({ op: "jobs", n: 9, jobs: [item] });
const listen = (page, item) => {
  const questions = [];
  const remove = page.jobs.job(item).on("question", (question) => questions.push(question));
  return { questions, remove };
};
const modules = { job_events, output_reader: {} };

test("each question is passed on once, also one that is open already", async () => {
  const page = livePage({ modules });
  const { questions, remove } = listen(page, asking(1));
  await settled();
  sendJob(page, asking(2));
  sendJob(page, job(3, { waiting: null }));
  sendJob(page, asking(4, "2"));
  sendJob(page, job(5, { state: "waiting", waiting: { id: "3", kind: "pause", links: {} } }));
  assert.deepEqual(
    questions.map((question) => [question.id, question.title]),
    [
      ["1", "Ship?"],
      ["2", "Ship?"],
    ],
  );
  remove();
  sendJob(page, asking(6, "4"));
  assert.equal(questions.length, 2);
});

test("a listener that is removed before its script is loaded gets nothing", async () => {
  const page = livePage({ modules });
  const { questions, remove } = listen(page, asking(1));
  remove();
  await settled();
  sendJob(page, asking(2, "2"));
  assert.deepEqual(questions, []);
});

test("a choice is sent as value, and the fields of a form as they are", async () => {
  const bodies = [];
  const send = ({ init }) => {
    bodies.push(init.body);
    return { json: { ended: {} } };
  };
  const routes = { [`POST ${ANSWER}`]: send };
  const page = livePage({ modules, routes });
  const { questions } = listen(page, asking(1));
  await settled();
  sendJob(page, asking(2, "2", { choices: null }));
  assert.deepEqual(await questions[0].answer("yes"), { ended: {} });
  await questions[1].answer({ amount: 3 });
  assert.deepEqual(bodies, ['{"value":"yes"}', '{"amount":3}']);
});

test("a question that was answered before is refused", async () => {
  const refused = {
    status: 409,
    json: { type: "about:blank", title: "Conflict", detail: "Ada answered Ship." },
  };
  const page = livePage({ modules, routes: { [`POST ${ANSWER}`]: refused } });
  const { questions } = listen(page, asking(1));
  await settled();
  await assert.rejects(questions[0].answer("yes"), {
    name: "RequestRefused",
    status: 409,
    message: "Ada answered Ship.",
  });
});

test("a question that others were asked is refused without a request", async () => {
  const page = livePage({ modules });
  const { questions } = listen(page, asking(1, "1", { links: { answer: null, page: "/n/jobs/1/" } }));
  await settled();
  await assert.rejects(questions[0].answer("yes"), { name: "RequestRefused", status: 404 });
});

test("output is not read without an address, and not after its listener was removed", async () => {
  const readers = [];
  const output_reader = { readOutput: (options) => readers.push(options) };
  const page = livePage({ modules: { job_events, output_reader } });
  page.jobs.job(job(1)).on("output", () => undefined)();
  await settled();
  assert.equal(readers.length, 0);
  const parts = [];
  const remove = page.jobs.job(job(1)).on("output", (part) => parts.push(part));
  await settled();
  readers[0].take([{ text: "a", mark: "" }], "1", "a");
  await settled();
  remove();
  readers[0].take([{ text: "b", mark: "" }], "2", "b");
  await settled();
  assert.deepEqual(parts, [{ text: "a", mark: "" }]);
  const anonymous = livePage({ modules: { job_events, output_reader }, jobUrl: () => "" });
  anonymous.jobs.job(job(1)).on("output", () => undefined);
  await settled();
  assert.equal(readers.length, 1);
});
