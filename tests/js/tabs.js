// Tabs of one browser, as the entry module puts them together, on fakes.

import { Client } from "../../notifications/static/notifications/client.js";
import { Connection, Poll } from "../../notifications/static/notifications/connection.js";
import { SharedLink } from "../../notifications/static/notifications/tabs.js";
import { FakeClock, FakeLocks, FakeSocket, fakeChannels, fakeFetch, settled, syncFrame } from "./fakes.js";

export const NAME = "notifications.v1:u1";
export const NOBODY = { status: 401, json: { type: "about:blank", title: "Unauthorized" } };

/** Tabs of one browser, which share locks, channels and clock. */
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
  const channels = fakeChannels();
  const clock = new FakeClock();
  const open = (name = NAME, seq = 41) => {
    const tab = { sockets: [], net: fakeFetch(routes) };
    const link = (hooks) => {
      const poll = new Poll({ url: "/sync/", fetch: tab.net.fetch, clock, hooks });
      const connect = (hooks) =>
        new Connection({
          url: "ws://site.test/ws/",
          clock,
          random: () => 0,
          hooks,
          poll: new Poll({ url: "/sync/", fetch: tab.net.fetch, clock, hooks }),
          open: (...args) => (tab.sockets.push(new FakeSocket(...args)), tab.sockets.at(-1)),
        });
      const channel = (name) => (tab.channel = channels(name));
      tab.link = new SharedLink({ name, locks, channel, connect, poll, clock, hooks });
      return tab.link;
    };
    tab.client = new Client({ link, start: { epoch: "e1", seq, unread: 2 } });
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
