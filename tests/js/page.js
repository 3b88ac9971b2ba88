// Builds a page from fakes, as the entry module does from the browser's own objects.

import { Client } from "../../notifications/static/notifications/client.js";
import { Connection } from "../../notifications/static/notifications/connection.js";
import { FollowedJob } from "../../notifications/static/notifications/job_handle.js";
import { Jobs } from "../../notifications/static/notifications/jobs.js";
import { Poller } from "../../notifications/static/notifications/polling.js";
import * as errors from "../../notifications/static/notifications/requests.js";
import { UserStream } from "../../notifications/static/notifications/stream.js";
import { FakeClock, FakeSocket, fakeFetch } from "./fakes.js";

export function makePage({
  start = { epoch: "e1", seq: 41, unread: 2, unseen: 2 },
  pollUrl = "/n/api/sync/?background=1",
  routes = {},
  random = () => 0.5,
  hasUser = true,
  modules = {},
  jobUrl = (id) => `/n/api/jobs/${id}/`,
} = {}) {
  const clock = new FakeClock();
  const sockets = [];
  const net = fakeFetch(routes);
  const changes = [];
  const states = [];
  const openSocket = (url, protocols) => {
    const socket = new FakeSocket(url, protocols);
    sockets.push(socket);
    return socket;
  };
  const createTransport = (callbacks) =>
    new Connection({
      url: "ws://site.test/ws/",
      openSocket,
      clock,
      random,
      hasUser,
      callbacks,
      poller: new Poller({ url: pollUrl, fetch: net.fetch, clock, callbacks }),
    });
  const client = new Client({ createTransport, start });
  const stream = new UserStream(client);
  client.on("change", (change) => changes.push(change));
  client.on("state", (state) => states.push(state));
  const csrf = { header: "X-CSRFToken", getToken: () => "token" };
  const requests = new errors.Requests({ fetch: net.fetch, clock, origin: "http://site.test", csrf });
  const jobs = new Jobs({
    client,
    requests,
    errors,
    FollowedJob,
    clock,
    jobUrl,
    loadModules: async () => modules,
  });
  return { client, stream, clock, sockets, net, changes, states, jobs, last: () => sockets.at(-1) };
}

/** Build a page whose socket is connected and has caught up. */
export function livePage(options = {}) {
  const page = makePage(options);
  page.client.start();
  page.last().welcome(options.sync ?? { unread: 2 });
  page.changes.length = 0;
  page.last().sent.length = 0;
  return page;
}
