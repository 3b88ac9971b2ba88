import assert from "node:assert/strict";
import { beforeEach, test } from "node:test";
import { JOB, job, settled } from "./fakes.js";
import { livePage } from "./page.js";

const URL_OF_JOB = `/n/api/jobs/${JOB}/`;
const OUTPUT = `GET ${URL_OF_JOB}output/`;

class FakeEventSource {
  static CLOSED = 2;
  static opened = [];
  readyState = 0;
  #listeners = {};

  constructor(url) {
    this.url = new URL(url);
    FakeEventSource.opened.push(this);
  }

  addEventListener(type, listener) {
    this.#listeners[type] = listener;
  }

  close() {
    this.readyState = 2;
  }

  emit(type, data) {
    this.#listeners[type]({ data });
  }

  /** Receive a part of the output, as one message. */
  receive(text, end, more = {}) {
    if (text) this.emit("data", text);
    this.emit("control", JSON.stringify({ streamNextOffset: String(end).padStart(16, "0"), ...more }));
  }
}

let visibility;

beforeEach(() => {
  visibility = new EventTarget();
  visibility.visibilityState = "visible";
  FakeEventSource.opened = [];
  Object.assign(globalThis, {
    document: visibility,
    location: new URL("http://site.test/page/"),
    EventSource: FakeEventSource,
  });
});

function hide(isHidden) {
  visibility.visibilityState = isHidden ? "hidden" : "visible";
  visibility.dispatchEvent(new Event("visibilitychange"));
}

/** Read the output of a running job. The state of the module is new, as on a new page. */
async function read(answers = []) {
  const { readOutput } = await import(
    `../../notifications/static/notifications/output_reader.js?${Math.random()}`
  );
  const routes = {
    [OUTPUT]: () => answers.shift() ?? new Promise(() => {}),
    [`GET ${URL_OF_JOB}`]: { json: job(9, { state: "succeeded" }) },
  };
  const page = livePage({ routes });
  const taken = [];
  const stop = new AbortController();
  readOutput({
    id: JOB,
    url: `${URL_OF_JOB}?background=1`,
    client: page.client,
    jobs: page.jobs,
    clock: page.clock,
    signal: stop.signal,
    take: (parts) => taken.push(...parts.map((part) => part.text || `[${part.mark}]`)),
  });
  const calls = () => page.net.calls.filter(({ key }) => key === OUTPUT);
  return { ...page, taken, stop, calls, last: () => FakeEventSource.opened.at(-1) };
}

/** A part that a long poll or a read answers. fakeFetch() sends JSON. */
const part = (json, end, headers = {}) => ({
  json,
  headers: { "Stream-Next-Offset": String(end).padStart(16, "0"), ...headers },
});

test("events that arrive are read from one response", async () => {
  const { clock, taken, last, calls } = await read();
  last().receive("", 0);
  await clock.advance(40_000);
  last().receive("a", 1);
  last().receive("b", 2, { streamClosed: true });
  assert.deepEqual(taken, ["a", "b"]);
  assert.equal(FakeEventSource.opened.length, 1);
  assert.equal(calls().length, 0);
  assert.equal(last().readyState, 2);
});

test("where events are held back, long polls take their place", async () => {
  const { clock, taken, last, calls } = await read([
    part(1, 1),
    part(2, 2),
    part(3, 3, { "Stream-Closed": "true" }),
  ]);
  await clock.advance(5_000);
  assert.equal(last().readyState, 2);
  assert.deepEqual(taken, ["1"]);
  await clock.advance(1_000);
  await clock.advance(1_000);
  assert.deepEqual(taken, ["1", "2", "3"]);
  await clock.advance(60_000);
  assert.equal(FakeEventSource.opened.length, 1);
  assert.deepEqual(
    calls().map(({ url }) => [url.searchParams.get("live"), url.searchParams.get("offset")]),
    [
      ["long-poll", "-1"],
      ["long-poll", "0000000000000001"],
      ["long-poll", "0000000000000002"],
    ],
  );
});

test("a line whose end is kept back, as a line of the app may follow, does not wake the next poll", async () => {
  const { clock, taken, calls } = await read([
    { ...part(0, 2), text: "a\n" },
    { ...part(0, 14), text: "\x1eattempt 2\nb" },
  ]);
  await clock.advance(5_000);
  assert.deepEqual(taken, ["a"]);
  await clock.advance(1_000);
  assert.deepEqual(taken, ["a", "[attempt 2]", "b"]);
  assert.equal(calls()[1].url.searchParams.get("offset"), "0000000000000002");
});

test("the events after a reconnect may be held back too, by another network", async () => {
  const { clock, taken, last } = await read([part(2, 2)]);
  last().receive("a", 1);
  last().emit("error");
  await clock.advance(8_000);
  assert.deepEqual(taken, ["a", "2"]);
  assert.equal(FakeEventSource.opened.length, 1);
});

test("an outage is no proxy: events are tried again after it", async () => {
  const { clock, taken, last } = await read([new TypeError("Failed to fetch")]);
  await clock.advance(5_000);
  assert.equal(FakeEventSource.opened.length, 1);
  await clock.advance(3_000);
  assert.equal(FakeEventSource.opened.length, 2);
  last().receive("a", 1);
  assert.deepEqual(taken, ["a"]);
});

for (const status of [403, 409, 500, 501, 503])
  test(`an answer with ${status} is no output, and read again later`, async () => {
    const { clock, taken, last, calls } = await read([{ status }, part(1, 1)]);
    last().readyState = 2;
    last().emit("error");
    await settled();
    assert.equal(calls().length, 1);
    assert.deepEqual(taken, []);
    await clock.advance(3_000);
    last().readyState = 2;
    last().emit("error");
    await settled();
    assert.deepEqual(taken, ["1"]);
  });

for (const status of [401, 404])
  test(`an answer with ${status} ends the reading`, async () => {
    const { clock, taken, last, calls } = await read([{ status }]);
    last().readyState = 2;
    last().emit("error");
    await clock.advance(60_000);
    assert.equal(calls().length, 1);
    assert.equal(FakeEventSource.opened.length, 1);
    assert.deepEqual(taken, []);
  });

test("a hidden page waits for nothing, and what was on its way is not shown twice", async () => {
  let answer = () => undefined;
  const { clock, taken, calls, stop } = await read([
    new Promise((resolve) => {
      answer = resolve;
    }),
    part(1, 1),
  ]);
  await clock.advance(5_000);
  hide(true);
  assert.ok(calls()[0].init.signal.aborted);
  hide(false);
  await settled();
  answer(part(1, 1));
  await settled();
  assert.deepEqual(taken, ["1"]);
  stop.abort();
  await clock.advance(60_000);
  assert.equal(calls().length, 2);
});
