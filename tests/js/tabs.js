// Builds the tabs of one browser from fakes, as the entry module does from the browser's own objects.

import { Client } from "../../notifications/static/notifications/client.js";
import { Connection } from "../../notifications/static/notifications/connection.js";
import { Poller } from "../../notifications/static/notifications/polling.js";
import { SharedConnection } from "../../notifications/static/notifications/tabs.js";
import { FakeClock, FakeLocks, FakeSocket, fakeChannels, fakeFetch, settled, syncFrame } from "./fakes.js";

export const NAME = "notifications.v1:u1";
export const UNAUTHORIZED = { status: 401, json: { type: "about:blank", title: "Unauthorized" } };

/** Build a browser whose tabs share locks, channels and clock. */
export function makeBrowser(
  routes = {
    "GET /sync/": ({ url }) => {
      const seq = url.searchParams.get("seq");
      const position = seq === null ? { prev: null, reset: true } : { prev: Number(seq) };
      return { json: syncFrame({ ...position, seq: 41, unread: 2 }) };
    },
  },
) {
  const locks = new FakeLocks();
  const createSharedChannel = fakeChannels();
  const clock = new FakeClock();
  const open = (name = NAME, seq = 41) => {
    const tab = { sockets: [], net: fakeFetch(routes), isVisible: true };
    const createTransport = (callbacks) => {
      const poller = new Poller({ url: "/sync/?background=1", fetch: tab.net.fetch, clock, callbacks });
      const createConnection = (callbacks) =>
        new Connection({
          url: "ws://site.test/ws/",
          clock,
          random: () => 0,
          hasUser: true,
          callbacks,
          poller: new Poller({ url: "/sync/?background=1", fetch: tab.net.fetch, clock, callbacks }),
          openSocket: (...args) => {
            tab.sockets.push(new FakeSocket(...args));
            return tab.sockets.at(-1);
          },
        });
      const createChannel = (name) => {
        tab.channel = createSharedChannel(name);
        return tab.channel;
      };
      tab.transport = new SharedConnection({
        name,
        locks,
        createChannel,
        createConnection,
        poller,
        clock,
        isVisible: () => tab.isVisible,
        callbacks,
      });
      return tab.transport;
    };
    tab.client = new Client({ createTransport, start: { epoch: "e1", seq, unread: 2 } });
    tab.client.start();
    return tab;
  };
  return { open, locks, clock };
}

export async function twoTabs(browser = makeBrowser()) {
  const leader = browser.open();
  await settled();
  leader.sockets[0].welcome({ unread: 2 });
  const follower = browser.open();
  await settled();
  return { ...browser, browser, leader, follower };
}
