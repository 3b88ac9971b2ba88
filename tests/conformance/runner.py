"""Run server vectors: actions with a driver, frames with raw WebSockets."""

import asyncio
import json
import time

from tests.conformance.pattern import differences
from tests.conformance.rawsocket import RawSocket

CONCURRENT_VECTORS = 12
#: Actions that affect all users. Vectors with them run one after the other, after the rest.
GLOBAL_ACTIONS = {"prune", "restore"}
#: The actions of vectors on a job, and the functions of tests/support/site_actions.py that execute them.
JOB_ACTIONS = {
    "start": "claim_job",
    "progress": "store_progress",
    "finish": "finish_job",
    "fail": "fail_job",
    "give_back": "release_job",
}
#: For a frame that should arrive soon. Longer than the position check, which finds changes whose ring was lost.
FRAME_TIMEOUT_SECONDS = 10
MARKS = {"read", "unread", "archive", "unarchive"}
SUBPROTOCOL = ("Sec-WebSocket-Protocol", "notifications.v1")


async def run_all(served, vectors, run_class):
    """Run vectors, each with a `run_class`, and return the failures as text.

    They share a server, because starting one takes seconds.
    """
    users = await served.call("create_users", count=2 * len(vectors), sessions=2)
    runs = [
        (run_class(served, users[2 * index], users[2 * index + 1]), vector["name"], vector["steps"])
        for index, vector in enumerate(vectors)
    ]
    failures = []
    semaphore = asyncio.Semaphore(CONCURRENT_VECTORS)

    async def run_vector(run, name, steps):
        async with semaphore:
            try:
                await run.run(steps)
            except AssertionError as error:
                failures.append(f"{name}: {error}")

    # Vectors that wait for seconds start first.
    runs.sort(key=lambda run: not any("within_s" in step or "silent_s" in step for step in run[2]))
    concurrent = [run for run in runs if not any(step.get("do") in GLOBAL_ACTIONS for step in run[2])]
    await asyncio.gather(*(run_vector(*run) for run in concurrent))
    for run in runs:
        if run not in concurrent:
            await run_vector(*run)
    return "\n".join(failures)


class Served:
    """A server under test: its URL, its driver, and the factor by which the protocol's timeouts are divided."""

    def __init__(self, url, driver, speedup=1.0):
        self.url = url
        self.driver = driver
        self.speedup = speedup
        self.sockets = []

    def close(self):
        for socket in self.sockets:
            socket.close()

    async def call(self, action, **arguments):
        return await asyncio.to_thread(self.driver.call, action, **arguments)

    async def open(self, session=None, headers=None):
        headers = [("Origin", self.url), SUBPROTOCOL] if headers is None else list(headers)
        if session:
            headers.append(("Cookie", f"sessionid={session}"))
        socket = await RawSocket.open(self.url.replace("http", "ws", 1) + "/ws/notifications/", headers)
        self.sockets.append(socket)
        return socket


class Run:
    """The run of one vector, with its own users and sockets."""

    def __init__(self, served, me, other):
        self.served = served
        self.users = {"me": me, "other": other}
        self.values = {}  # the values of the vector's $names
        self.sockets = {}

    async def run(self, steps):
        try:
            await self.run_steps(steps)
        finally:
            for socket in self.sockets.values():
                socket.close()

    async def run_steps(self, steps):
        for number, step in enumerate(steps):
            try:
                await self.run_step(step)
            except AssertionError as error:
                raise AssertionError(f"step {number + 1} {json.dumps(step)[:300]}: {error}") from error

    async def run_step(self, step):
        if "repeat" in step:
            for _ in range(step["repeat"]):
                if not self.is_repeated_enough(step):
                    await self.run_steps(step["steps"])
        elif "do" in step:
            await self.do(**step)
        elif "open" in step:
            await self.open(step)
        elif "hang_up" in step:
            self.sockets.pop(step["hang_up"]).close()
        elif "silent_s" in step:
            await asyncio.sleep(step["silent_s"] / self.served.speedup)
        else:
            await self.use_socket(step)

    def is_repeated_enough(self, step):
        if "until_n_above_ack" in step:
            return self.values["last_n"] - self.values["asked"] >= step["until_n_above_ack"]
        return step.get("until_ack") and "asked" in self.values

    async def use_socket(self, step):
        socket = self.sockets[step.get("on", "a")]
        if "send" in step:
            socket.send(json.dumps(self.substitute(step["send"])).encode())
        elif "send_text" in step:
            socket.send(step["send_text"].encode())
        elif "silent" in step:
            socket.send(b'{"op":"ping"}')
            frame = await self.receive_frame(socket)
            assert frame["op"] == "beat", f"received {frame}"
        elif "closed" in step:
            assert await self.receive(socket) == step["closed"]
        else:
            await self.expect_frame(socket, step)

    async def expect_frame(self, socket, step):
        """Check that the next frame is as expected. Beats are skipped: they may arrive at any time."""
        started = time.monotonic()
        if step["hear"]["op"] == "beat" and "within_s" in step and "asked" in self.values:
            # Else the time for an ack, which is divided, would be over before that of a beat, which is not.
            socket.send(json.dumps({"op": "ack", "n": self.values["asked"]}).encode())
        speedup = 1 if step.get("hear", {}).get("op") == "beat" else self.served.speedup
        skipped = [{"op": "beat", "seq": "$integer"}] if step["hear"]["op"] != "beat" else []
        skipped += step.get("pass_over", [])
        while True:
            frame = await self.receive_frame(
                socket, step.get("within_s", FRAME_TIMEOUT_SECONDS) + FRAME_TIMEOUT_SECONDS
            )
            self.note_ack(socket, frame, step["hear"])
            if not any(not list(differences(frame, pattern, {})) for pattern in skipped):
                break
        found_differences = list(differences(frame, step["hear"], self.values))
        assert not found_differences, "; ".join(found_differences)
        assert time.monotonic() - started >= step.get("from_s", 0) / speedup, "too early"
        assert time.monotonic() - started <= step.get("within_s", FRAME_TIMEOUT_SECONDS), "too late"

    def note_ack(self, socket, frame, pattern):
        """Record which frame requests an ack, and remove a socket's first request, whose position is random."""
        self.values["last_n"] = frame.get("n", self.values.get("last_n"))
        if frame.get("ack") is True:
            self.values["asked"] = frame["n"]
            if not socket.has_ack_request and "ack" not in pattern:
                del frame["ack"]
            socket.has_ack_request = True

    async def open(self, step):
        session = step.get("session", 0)
        if isinstance(session, int):
            session = self.users["me"]["sessions"][session]
        self.sockets[step["open"]] = await self.served.open(session)

    async def do(self, do, user="me", **arguments):
        key = self.users[user]["user"]
        name = arguments.pop("as", None)
        arguments = self.substitute(arguments)
        if isinstance(arguments.get("body"), dict):
            arguments["body"] = arguments["body"]["text"] * arguments["body"]["times"]
        if do in MARKS:
            value = await self.served.call("mark_notifications", user=key, verb=do, **arguments)
        elif do == "seen":
            value = await self.served.call("mark_seen", user=key, **arguments)
        elif do == "notify":
            value = (await self.served.call("notify_user", user=key, **arguments))[-1]
        elif do == "job":
            value = await self.served.call("enqueue_job", user=key, **arguments)
        elif do == "sign_out":
            value = await self.served.call(
                "sign_out", user=key, session=self.users[user]["sessions"][arguments["session"]]
            )
        elif do in ("restore", "prune"):
            value = await self.served.call("begin_epoch" if do == "restore" else "prune")
        else:
            value = await self.served.call(JOB_ACTIONS[do], id=arguments.pop("job"), **arguments)
        if name:
            self.values[name[1:]] = value

    def substitute(self, value):
        """Return a copy with each $name replaced by its value."""
        if isinstance(value, dict):
            return {key: self.substitute(part) for key, part in value.items()}
        if isinstance(value, list):
            return [self.substitute(part) for part in value]
        return self.values[value[1:]] if isinstance(value, str) and value.startswith("$") else value

    async def receive_frame(self, socket, timeout=FRAME_TIMEOUT_SECONDS):
        text = await self.receive(socket, timeout)
        assert isinstance(text, str), f"closed with {text}"
        return json.loads(text)

    async def receive(self, socket, timeout=FRAME_TIMEOUT_SECONDS):
        try:
            return await asyncio.wait_for(socket.receive(), timeout)
        except TimeoutError:
            raise AssertionError(f"nothing received within {timeout} s") from None
