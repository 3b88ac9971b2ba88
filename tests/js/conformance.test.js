// The client vectors of docs/reference/protocol, run against the browser client on fakes.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { makePage } from "./page.js";

const told = JSON.parse(readFileSync(new URL("../../docs/reference/protocol/client.json", import.meta.url), "utf8"));

/** {"like": name, …} laid over that template, and its {id} filled in. */
function writtenOut(value) {
  if (Array.isArray(value)) return value.map(writtenOut);
  if (value === null || typeof value !== "object") return value;
  const { like, ...own } = value;
  if (typeof like !== "string")
    return Object.fromEntries(Object.entries(value).map(([k, v]) => [k, writtenOut(v)]));
  return JSON.parse(JSON.stringify({ ...told.like[like], ...own }).replaceAll("{id}", own.id));
}

const byText = (frames) => frames.map((frame) => JSON.stringify(sorted(frame))).sort();
const sorted = (frame) => Object.fromEntries(Object.entries(frame).sort(([a], [b]) => (a < b ? -1 : 1)));

class Run {
  constructor(start, random) {
    this.routes = {};
    this.page = makePage({ start, routes: this.routes, random: () => random });
    this.asked = 0;
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
    assert.deepEqual(byText(this.socket.sent.splice(0)), byText(frames));
  }

  http(answers) {
    for (const [path, item] of Object.entries(answers)) this.routes[`GET ${path}`] = { json: item };
  }

  gets(paths) {
    const keys = this.page.net.calls.slice(this.asked).map((call) => call.url.pathname);
    this.asked = this.page.net.calls.length;
    assert.deepEqual(keys, paths);
  }

  holds(expected) {
    const { stream } = this.page.client;
    const held = {
      epoch: stream.epoch,
      cursor: stream.cursor,
      unread: stream.unread,
      notifications: Object.fromEntries([...stream.notifications].map(([id, item]) => [id, item.seq])),
      jobs: Object.fromEntries([...stream.jobs].map(([id, item]) => [id, item.version])),
    };
    for (const key of Object.keys(expected)) assert.deepEqual(held[key], expected[key], key);
  }

  item(expected) {
    const { stream } = this.page.client;
    const item = stream.notifications.get(expected.id) ?? stream.jobs.get(expected.id);
    for (const key of Object.keys(expected)) assert.deepEqual(item[key], expected[key], key);
  }

  async end(code, comesBack) {
    const { clock, sockets } = this.page;
    const before = sockets.length;
    this.socket.end(code);
    if (comesBack === null) {
      await clock.advance(600_000);
      assert.equal(sockets.length, before, "it must not come back");
      return;
    }
    const [from, to] = comesBack;
    if (from > 0) await clock.advance(from - 1);
    assert.equal(sockets.length, before, "it came back too early");
    await clock.advance(to - from + 1);
    assert.ok(sockets.length > before, "it did not come back in time");
  }

  async silent(ms, closed) {
    await this.page.clock.advance(ms);
    assert.equal(this.socket.closed, closed);
  }
}

for (const { name, start, steps } of told.vectors) {
  test(name, async () => {
    // The earliest and the latest moment that its own dice may choose.
    for (const random of [0, 0.999]) {
      const run = new Run(start, random);
      for (const step of writtenOut(steps)) await run.step(step);
    }
  });
}
