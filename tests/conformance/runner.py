"""Runs server vectors: deeds through a driver, frames through raw WebSockets."""

import asyncio
import json
import time

from tests.conformance.pattern import differences
from tests.conformance.rawsocket import RawSocket

#: Vectors at once, and deeds that change something for all users: those are run one after the other, after the rest.
AT_ONCE = 12
FOR_ALL = {"prune", "restore"}
#: Seconds for a frame that should come soon: longer than the position check, which finds what a lost ring did not tell.
PATIENCE = 10
MARKS = {"read", "unread", "archive", "unarchive"}
SUBPROTOCOL = ("Sec-WebSocket-Protocol", "notifications.v1")


async def run_all(served, vectors, how):
    """Run vectors, each as a `how`; returns what was wrong. One server for all, because to start one takes seconds."""
    people = await served.call("people", count=2 * len(vectors), sessions=2)
    runs = [
        (how(served, people[2 * nth], people[2 * nth + 1]), vector["name"], vector["steps"])
        for nth, vector in enumerate(vectors)
    ]
    wrong = []
    some = asyncio.Semaphore(AT_ONCE)

    async def take(run, name, steps):
        async with some:
            try:
                await run.run(steps)
            except AssertionError as error:
                wrong.append(f"{name}: {error}")

    # Those that wait for seconds begin first.
    runs.sort(key=lambda run: not any("within_s" in step or "silent_s" in step for step in run[2]))
    apart = [run for run in runs if not is_for_all(run[2])]
    await asyncio.gather(*(take(*run) for run in apart))
    for run in runs:
        if run not in apart:
            await take(*run)
    return "\n".join(wrong)


def is_for_all(steps):
    return any(step.get("do") in FOR_ALL for step in steps)


class Served:
    """A server under test: where it is, who drives it, and how much faster than the protocol its waits are."""

    def __init__(self, url, driver, haste=1.0):
        self.url = url
        self.driver = driver
        self.haste = haste
        self.sockets = []

    def close(self):
        for socket in self.sockets:
            socket.close()

    async def call(self, deed, **told):
        return await asyncio.to_thread(self.driver.call, deed, **told)

    async def open(self, session=None, headers=None):
        headers = [("Origin", self.url), SUBPROTOCOL] if headers is None else list(headers)
        if session:
            headers.append(("Cookie", f"sessionid={session}"))
        socket = await RawSocket.open(self.url.replace("http", "ws", 1) + "/ws/notifications/", headers)
        self.sockets.append(socket)
        return socket


class Run:
    """One vector, with users and sockets of its own."""

    def __init__(self, served, me, other):
        self.served = served
        self.people = {"me": me, "other": other}
        self.known = {}
        self.sockets = {}

    async def run(self, steps):
        try:
            await self.take(steps)
        finally:
            for socket in self.sockets.values():
                socket.close()

    async def take(self, steps):
        for number, step in enumerate(steps):
            try:
                await self.step(step)
            except AssertionError as error:
                raise AssertionError(f"step {number + 1} {json.dumps(step)[:300]}: {error}") from error

    async def step(self, step):
        if "repeat" in step:
            for _ in range(step["repeat"]):
                if not (step.get("until_ack") and "asked" in self.known):
                    await self.take(step["steps"])
        elif "do" in step:
            await self.do(**step)
        elif "open" in step:
            await self.open(step)
        elif "hang_up" in step:
            self.sockets.pop(step["hang_up"]).close()
        elif "silent_s" in step:
            await asyncio.sleep(step["silent_s"] / self.served.haste)
        else:
            await self.on_socket(step)

    async def on_socket(self, step):
        socket = self.sockets[step.get("on", "a")]
        if "send" in step:
            socket.send(json.dumps(self.filled_in(step["send"])).encode())
        elif "send_text" in step:
            socket.send(step["send_text"].encode())
        elif "silent" in step:
            socket.send(b'{"op":"ping"}')
            frame = await self.receive_frame(socket)
            assert frame["op"] == "beat", f"{frame} came"
        elif "closed" in step:
            assert await self.receive(socket) == step["closed"]
        else:
            await self.hear(socket, step)

    async def hear(self, socket, step):
        """The next frame is as expected, beats aside, which may come at any time."""
        began = time.monotonic()
        haste = 1 if step.get("hear", {}).get("op") == "beat" else self.served.haste
        over = [{"op": "beat", "seq": "$integer"}] if step["hear"]["op"] != "beat" else []
        over += step.get("pass_over", [])
        while True:
            frame = await self.receive_frame(socket, step.get("within_s", PATIENCE) + PATIENCE)
            self.note_ack(socket, frame, step["hear"])
            if not any(not list(differences(frame, pattern, {})) for pattern in over):
                break
        wrong = list(differences(frame, step["hear"], self.known))
        assert not wrong, "; ".join(wrong)
        assert time.monotonic() - began >= step.get("from_s", 0) / haste, "too early"
        assert time.monotonic() - began <= step.get("within_s", PATIENCE), "too late"

    def note_ack(self, socket, frame, pattern):
        """Keep which frame asked for an ack, and take the first such mark of a socket out: it comes at random."""
        if frame.get("ack") is True:
            self.known["asked"] = frame["n"]
            if not socket.asked and "ack" not in pattern:
                del frame["ack"]
            socket.asked = True

    async def open(self, step):
        session = step.get("session", 0)
        if isinstance(session, int):
            session = self.people["me"]["sessions"][session]
        self.sockets[step["open"]] = await self.served.open(session)

    async def do(self, do, user="me", **told):
        who = self.people[user]["user"]
        named = told.pop("as", None)
        told = self.filled_in(told)
        if isinstance(told.get("body"), dict):
            told["body"] = told["body"]["text"] * told["body"]["times"]
        if do in MARKS:
            made = await self.served.call("mark", user=who, verb=do, **told)
        elif do == "notify":
            made = (await self.served.call("tell", user=who, **told))[-1]
        elif do == "job":
            made = await self.served.call("job", user=who, **told)
        elif do == "sign_out":
            made = await self.served.call(
                "sign_out", user=who, session=self.people[user]["sessions"][told["session"]]
            )
        elif do in ("restore", "prune"):
            made = await self.served.call({"restore": "begin_epoch"}.get(do, do))
        else:
            made = await self.served.call(do, id=told.pop("job"), **told)
        if named:
            self.known[named[1:]] = made

    def filled_in(self, value):
        """The same with $names replaced by what they are bound to."""
        if isinstance(value, dict):
            return {key: self.filled_in(part) for key, part in value.items()}
        if isinstance(value, list):
            return [self.filled_in(part) for part in value]
        return self.known[value[1:]] if isinstance(value, str) and value.startswith("$") else value

    async def receive_frame(self, socket, timeout=PATIENCE):
        text = await self.receive(socket, timeout)
        assert isinstance(text, str), f"closed with {text}"
        return json.loads(text)

    async def receive(self, socket, timeout=PATIENCE):
        try:
            return await asyncio.wait_for(socket.receive(), timeout)
        except TimeoutError:
            raise AssertionError(f"nothing came within {timeout} s") from None
