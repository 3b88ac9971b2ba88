"""What ``bench.guard`` measures of a server whose users have a socket each: messages, reconnects, loaded modules."""

from __future__ import annotations

import contextlib
import json
import time

from bench.clients import Client, Clients
from bench.guard_jobs import NOT_JUDGED
from bench.measured_queue import Queue
from bench.serving import Server

#: Users with a socket each, and messages to all of them in a turn.
USERS, MESSAGES = 400, 4
#: Messages a second to users in turn, sent by another process, and the seconds of a turn.
STEADY_RATE, STEADY_SECONDS = 100, 1.0


class Sockets:
    """A server and a client of each user, all connected; they end with the stack."""

    def __init__(self, queue: Queue, stack: contextlib.ExitStack) -> None:
        people = queue.call("create_users_with_sessions", USERS - queue.call("count_users").value).value
        self.queue = queue
        self.sessions = [session for _, session in people]
        self.server = stack.enter_context(Server("uvicorn", None, env=queue.environment, cwd=queue.folder))
        self.clients = Clients(None)
        stack.callback(self.clients.stop)
        self.connect([("", 0)] * len(people))

    def connect(self, positions: list[tuple[str, int]]) -> None:
        self.clients.open(
            self.server.port,
            [
                Client(
                    path="/ws/notifications/",
                    session=session,
                    hello=json.dumps({"op": "hello", "epoch": epoch or None, "seq": seq}),
                )
                for session, (epoch, seq) in zip(self.sessions, positions, strict=True)
            ],
        )

    def push(self) -> dict[str, float]:
        before, expected = self.server.cpu(), len(self.sessions)
        for _ in range(MESSAGES):
            self.server.get("send/app")
            self.receive(expected)
        return {"µs of CPU a push": (self.server.cpu() - before) / expected / MESSAGES * 1e6}

    def send_steadily(self) -> dict[str, float]:
        """Notify one user at a time, in the process that enqueues."""
        before, number = self.server.cpu(), int(STEADY_RATE * STEADY_SECONDS)
        self.queue.call("notify_in_turn", STEADY_RATE, STEADY_SECONDS)
        latencies = sorted(self.receive(number))
        return {
            f"µs of CPU a message at 100/s, {self.queue.name}": (self.server.cpu() - before) / number * 1e6,
            f"ms to a message, p99, {self.queue.name} {NOT_JUDGED}": latencies[int(number * 0.99)] * 1e3,
        }

    def receive(self, number: int) -> list[float]:
        arrived = self.clients.arrived(number, within=30)
        if len(arrived) < number:
            raise SystemExit(f"{len(arrived)} of {number} messages have arrived after 30 s.")
        return list(arrived)

    def begin_reconnects(self) -> None:
        self._cpu = self.server.cpu()

    def reconnect(self) -> dict[str, float]:
        """Reconnect all, and return what the server has used since the last call.

        It reads the sessions of new connections once more 2 s later, which is counted in the turn after that.
        """
        positions = self.clients.positions()
        self.clients.close()
        self.connect(positions)
        time.sleep(0.4)
        before, self._cpu = self._cpu, self.server.cpu()
        return {"µs of CPU a reconnect": (self._cpu - before) / len(self.sessions) * 1e6}

    def count_modules(self) -> float:
        """Return the number of modules that the server has imported."""
        return float(self.server.get("setup/")["modules"])
