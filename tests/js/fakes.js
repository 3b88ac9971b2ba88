// Fakes: a clock that tests move, sockets that tests drive, and the locks and channels that tabs share.

export class FakeClock {
  time = 1_000_000;
  #timers = new Map();
  #next = 1;

  now = () => this.time;

  setTimeout = (run, ms) => {
    const id = this.#next++;
    this.#timers.set(id, { at: this.time + ms, run });
    return id;
  };

  clearTimeout = (id) => {
    this.#timers.delete(id);
  };

  /** Advance the time and run the timers that fall due, in order, also those that they start. */
  async advance(ms) {
    const end = this.time + ms;
    await settled();
    for (;;) {
      const due = [...this.#timers]
        .filter(([, timer]) => timer.at <= end)
        .sort((a, b) => a[1].at - b[1].at)[0];
      if (!due) break;
      this.#timers.delete(due[0]);
      this.time = Math.max(this.time, due[1].at);
      due[1].run();
      await settled();
    }
    this.time = end;
  }
}

/** Wait until the promises that can settle have done so. */
export async function settled() {
  for (let turn = 0; turn < 5; turn += 1) await new Promise((resolve) => setImmediate(resolve));
}

export class FakeSocket {
  readyState = 0;
  closed = false;
  sent = [];
  onopen = null;
  onmessage = null;
  onclose = null;

  constructor(url, protocols) {
    this.url = url;
    this.protocols = protocols;
  }

  send(text) {
    this.sent.push(JSON.parse(text));
  }

  close() {
    this.closed = true;
    this.readyState = 3;
  }

  open() {
    this.readyState = 1;
    this.onopen?.({});
  }

  receive(frame) {
    this.onmessage?.({ data: typeof frame === "string" ? frame : JSON.stringify(frame) });
  }

  end(code = 1006) {
    this.readyState = 3;
    this.onclose?.({ code });
  }

  /** Open the socket, and receive welcome and the answer to hello. */
  welcome(sync = {}) {
    this.open();
    this.receive({ op: "welcome", n: 1, subscriber: "s1", protocol: 1, beat: 25 });
    const { seq } = this.sent[0];
    this.receive(syncFrame({ n: 2, prev: seq, seq: seq ?? 0, ...sync }));
  }

  ops() {
    return this.sent.map((frame) => frame.op);
  }
}

export function syncFrame(values = {}) {
  return {
    op: "sync",
    epoch: "e1",
    prev: 0,
    seq: 0,
    reset: false,
    more: false,
    unread: 0,
    unseen: 0,
    items: [],
    jobs: [],
    ...values,
  };
}

export function notification(id, seq, values = {}) {
  return {
    kind: "notification",
    id,
    seq,
    raised: seq,
    level: "info",
    category: "",
    title: `Title ${id}`,
    body: "",
    url: null,
    job: null,
    created_at: "2026-01-01T00:00:00Z",
    read_at: null,
    archived_at: null,
    data: {},
    ...values,
  };
}

export const JOB = "0192aaaa-0000-7000-8000-000000000001";

export function job(version, values = {}) {
  const id = values.id ?? JOB;
  const state = values.state ?? "running";
  const self = `/n/api/jobs/${id}/`;
  return {
    kind: "job",
    id,
    seq: 0,
    version,
    title: "Job",
    task: "t",
    state,
    done: ["succeeded", "failed", "cancelled"].includes(state),
    attempt: 1,
    max_attempts: 3,
    progress: null,
    created_at: "2026-01-01T00:00:00Z",
    started_at: null,
    finished_at: null,
    expires_at: null,
    run_after: null,
    error: null,
    url: null,
    links: { self, result: state === "succeeded" ? `${self}result/` : null, cancel: null, retry: null },
    ...values,
  };
}

/** fetch() with answers, or functions that return them, by "METHOD path". Records its calls. */
export function fakeFetch(routes) {
  const calls = [];
  const fetch = async (input, init = {}) => {
    const url = new URL(input, "http://site.test");
    const key = `${(init.method ?? "GET").toUpperCase()} ${url.pathname}`;
    calls.push({ key, url, headers: new Headers(init.headers), init });
    let answer = routes[key];
    if (typeof answer === "function")
      answer = await answer({ url, init, headers: new Headers(init.headers) });
    if (answer === undefined) throw new TypeError(`no route for ${key}`);
    if (answer instanceof Error) throw answer;
    if (answer instanceof Response) return answer;
    const { status = 200, json = null, text = JSON.stringify(json), headers = {} } = answer;
    const empty = status === 304 || status === 204;
    const type = status >= 400 ? "application/problem+json" : "application/json";
    return new Response(empty ? null : text, {
      status,
      headers: { "Content-Type": type, ...headers },
    });
  };
  return { fetch, calls, routes, count: (key) => calls.filter((call) => call.key === key).length };
}

/** The Web Locks of one browser: exclusive, granted in order, can be stolen, released when their tab ends. */
export class FakeLocks {
  #held = new Map();
  #queues = new Map();

  request = (name, options, callback) => {
    if (typeof options === "function") [options, callback] = [{}, options];
    return new Promise((resolve, reject) => {
      const request = { callback, resolve, reject };
      options.signal?.addEventListener("abort", () => this.#cancel(name, request));
      if (options.ifAvailable && this.#held.has(name)) {
        resolve(callback(null));
      } else if (options.ifAvailable) {
        this.#grant(name, request);
      } else if (options.steal) {
        const previous = this.#held.get(name);
        this.#held.delete(name);
        previous?.reject(new DOMException("stolen", "AbortError"));
        this.#grant(name, request);
      } else {
        this.#queue(name).push(request);
        setImmediate(() => this.#grantNext(name));
      }
    });
  };

  /** Release a lock as a browser does when the tab that holds it was closed or has crashed. */
  async release(name) {
    this.#held.delete(name);
    this.#grantNext(name);
    await settled();
  }

  #queue(name) {
    if (!this.#queues.has(name)) this.#queues.set(name, []);
    return this.#queues.get(name);
  }

  #cancel(name, request) {
    const at = this.#queue(name).indexOf(request);
    if (at < 0) return;
    this.#queue(name).splice(at, 1);
    request.reject(new DOMException("aborted", "AbortError"));
  }

  #grantNext(name) {
    if (this.#held.has(name)) return;
    const request = this.#queue(name).shift();
    if (request) this.#grant(name, request);
  }

  #grant(name, request) {
    this.#held.set(name, request);
    Promise.resolve(request.callback({ name })).then((value) => {
      request.resolve(value);
      if (this.#held.get(name) === request) {
        this.#held.delete(name);
        this.#grantNext(name);
      }
    });
  }
}

/** The BroadcastChannels of one browser. */
export function fakeChannels() {
  const open = new Set();
  return (name) => {
    const channel = {
      onmessage: null,
      isFrozen: false,
      postMessage(data) {
        if (!open.has(channel) || channel.isFrozen) return;
        const copy = structuredClone(data);
        for (const other of open) {
          if (other !== channel && other.name === name && !other.isFrozen)
            queueMicrotask(() => other.onmessage?.({ data: copy }));
        }
      },
      close: () => open.delete(channel),
      name,
    };
    open.add(channel);
    return channel;
  };
}
