// Runs the client vectors of docs/reference/protocol against the browser client, on fakes.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { makePage } from "./page.js";

const suite = JSON.parse(
  readFileSync(new URL("../../docs/reference/protocol/client.json", import.meta.url), "utf8"),
);

/** Expand {"like": name, …}: the template of that name, with these values, and its {id} filled in. */
function expand(value) {
  if (Array.isArray(value)) return value.map(expand);
  if (value === null || typeof value !== "object") return value;
  const { like, ...own } = value;
  if (typeof like !== "string")
    return Object.fromEntries(Object.entries(value).map(([k, v]) => [k, expand(v)]));
  return JSON.parse(JSON.stringify({ ...suite.like[like], ...own }).replaceAll("{id}", own.id));
}

const toSortedText = (frames) => frames.map((frame) => JSON.stringify(sortKeys(frame))).sort();
const sortKeys = (frame) => Object.fromEntries(Object.entries(frame).sort(([a], [b]) => (a < b ? -1 : 1)));

class VectorRunner {
  constructor(start, random) {
    this.routes = {};
    this.page = makePage({ start, routes: this.routes, random: () => random });
    this.checkedCalls = 0;
    this.socket = null;
  }

  async step({ end, comes_back, silent_ms, closed, ...step }) {
    if (end !== undefined) return this.end(end, comes_back);
    if (silent_ms !== undefined) return this.silent(silent_ms, closed);
    const [[verb, value]] = Object.entries(step);
    await this[verb](value);
    await this.page.clock.advance(0);
  }

  open() {
    if (!this.socket) this.page.client.start();
    this.socket = this.page.last();
    this.socket.open();
  }

  server(frame) {
    this.socket.receive(frame);
  }

  client(frames) {
    assert.deepEqual(toSortedText(this.socket.sent.splice(0)), toSortedText(frames));
  }

  http(answers) {
    for (const [path, item] of Object.entries(answers)) this.routes[`GET ${path}`] = { json: item };
  }

  gets(paths) {
    const keys = this.page.net.calls.slice(this.checkedCalls).map((call) => call.url.pathname);
    this.checkedCalls = this.page.net.calls.length;
    assert.deepEqual(keys, paths);
  }

  holds(expected) {
    const { stream } = this.page.client;
    const actual = {
      epoch: stream.epoch,
      cursor: stream.cursor,
      unread: stream.unread,
      unseen: stream.unseen,
      notifications: Object.fromEntries([...stream.notifications].map(([id, item]) => [id, item.seq])),
      jobs: Object.fromEntries([...stream.jobs].map(([id, item]) => [id, item.version])),
    };
    for (const key of Object.keys(expected)) assert.deepEqual(actual[key], expected[key], key);
  }

  item(expected) {
    const { stream } = this.page.client;
    const item = stream.notifications.get(expected.id) ?? stream.jobs.get(expected.id);
    for (const key of Object.keys(expected)) assert.deepEqual(item[key], expected[key], key);
  }

  async end(code, reconnectWindow) {
    const { clock, sockets } = this.page;
    const before = sockets.length;
    this.socket.end(code);
    if (reconnectWindow === null) {
      await clock.advance(600_000);
      assert.equal(sockets.length, before, "the client must not reconnect");
      return;
    }
    const [from, to] = reconnectWindow;
    if (from > 0) await clock.advance(from - 1);
    assert.equal(sockets.length, before, "the client reconnected too early");
    await clock.advance(to - from + 1);
    assert.ok(sockets.length > before, "the client did not reconnect in time");
  }

  async silent(ms, closed) {
    await this.page.clock.advance(ms);
    assert.equal(this.socket.closed, closed);
  }
}

for (const { name, start, steps } of suite.vectors) {
  test(name, async () => {
    // The shortest and the longest delay that jitter may give.
    for (const random of [0, 0.999]) {
      const runner = new VectorRunner(start, random);
      for (const step of expand(steps)) await runner.step(step);
    }
  });
}
