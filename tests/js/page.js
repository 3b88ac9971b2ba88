// A page as the entry module puts it together, on fakes.

import { Client } from "../../notifications/static/notifications/client.js";
import { Connection, Poll } from "../../notifications/static/notifications/connection.js";
import { Jobs } from "../../notifications/static/notifications/jobs.js";
import { FakeClock, FakeSocket, fakeFetch } from "./fakes.js";

export function makePage({
  start = { epoch: "e1", seq: 41, unread: 2 },
  pollUrl = "/n/api/sync/",
  routes = {},
  random = () => 0.5,
} = {}) {
  const clock = new FakeClock();
  const sockets = [];
  const net = fakeFetch(routes);
  const changes = [];
  const states = [];
  const open = (url, protocols) => {
    const socket = new FakeSocket(url, protocols);
    sockets.push(socket);
    return socket;
  };
  const link = (hooks) =>
    new Connection({
      url: "ws://site.test/ws/",
      open,
      clock,
      random,
      hooks,
      poll: new Poll({ url: pollUrl, fetch: net.fetch, clock, hooks }),
    });
  const client = new Client({ link, start });
  client.on("change", (change) => changes.push(change));
  client.on("state", (state) => states.push(state));
  const jobs = new Jobs({
    client,
    clock,
    fetch: net.fetch,
    origin: "http://site.test",
    csrf: { header: "X-CSRFToken", token: () => "token" },
    jobUrl: (id) => `/n/api/jobs/${id}/`,
  });
  return { client, clock, sockets, net, changes, states, jobs, last: () => sockets.at(-1) };
}

/** A page whose socket is connected and has caught up. */
export function livePage(options = {}) {
  const page = makePage(options);
  page.client.start();
  page.last().welcome(options.sync ?? { unread: 2 });
  page.changes.length = 0;
  page.last().sent.length = 0;
  return page;
}
