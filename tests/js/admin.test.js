import assert from "node:assert/strict";
import { beforeEach, test } from "node:test";
import { FakeClock, settled } from "./fakes.js";

const MODULES = "../../notifications/static/notifications/admin/";
const FIGURES = "http://site.test/admin/figures/";

/** Answers each request with the page to which it was redirected, or with its own. */
class FakeRequest {
  static answer = {};
  status = 0;

  open(_method, url) {
    this.url = url;
  }

  setRequestHeader() {}
  abort() {}

  getResponseHeader() {
    return "";
  }

  send() {
    const page = { childNodes: ["page"], innerHTML: "page", querySelectorAll: () => [] };
    const responseXML = { body: page, querySelector: () => null, querySelectorAll: () => [] };
    Object.assign(this, { status: 200, responseURL: this.url, responseXML }, FakeRequest.answer);
    queueMicrotask(() => {
      this.onload?.({ target: this });
      this.onloadend?.();
    });
  }
}

beforeEach(() => {
  FakeRequest.answer = {};
  Object.assign(globalThis, {
    XMLHttpRequest: FakeRequest,
    location: new URL("http://site.test/admin/"),
    document: { querySelector: () => null, activeElement: null },
    getSelection: () => null,
  });
});

const REFUSALS = [
  [
    "a redirect to the page to sign in",
    { responseURL: "http://site.test/admin/login/?next=/admin/figures/" },
  ],
  ["403", { status: 403 }],
  ["409", { status: 409 }],
  ["500", { status: 500 }],
  ["a lost network", { status: 0, responseURL: "", responseXML: null }],
];

for (const [what, answer] of REFUSALS)
  test(`figures are not replaced after ${what}, and the page says so`, async () => {
    const { Figures } = await import(`${MODULES}overview.js`);
    const shown = [];
    const element = {
      dataset: { overviewFigures: "/admin/figures/" },
      innerHTML: "",
      contains: () => false,
      querySelector: () => null,
      querySelectorAll: () => [],
      replaceChildren: (...nodes) => shown.push(...nodes),
    };
    const problem = { hidden: true };
    const clock = new FakeClock();
    const figures = new Figures(element, problem, clock);
    FakeRequest.answer = answer;
    figures.start();
    await clock.advance(1_000);
    assert.deepEqual([shown, problem.hidden], [[], false]);
    FakeRequest.answer = { responseURL: FIGURES };
    await clock.advance(5_000);
    assert.deepEqual([shown, problem.hidden], [["page"], true]);
  });

for (const [what, answer] of REFUSALS)
  test(`a preview is not replaced after ${what}`, async () => {
    const shown = [];
    const listeners = {};
    const places = { querySelector: () => null, replaceChildren: (...nodes) => shown.push(...nodes) };
    const form = {
      dataset: { preview: "/admin/preview/" },
      querySelector: (selector) => (selector === "[role=status]" ? { textContent: "" } : places),
      addEventListener: (type, listener) => Object.assign(listeners, { [type]: listener }),
    };
    const timers = [];
    Object.assign(globalThis, {
      document: { querySelector: () => form },
      FormData: class {},
      addEventListener: () => undefined,
      setTimeout: (run) => timers.push(run),
      clearTimeout: () => undefined,
    });
    await import(`${MODULES}composer.js?${Math.random()}`);
    for (const values of [answer, {}]) {
      FakeRequest.answer = values;
      listeners.input();
      timers.pop()();
      await settled();
    }
    assert.deepEqual(shown, ["page"]);
  });
