"""What extensions ask before each request of a call, and learn from its response."""

from __future__ import annotations

from collections.abc import Mapping

from .guard import Target


class Gate:
    """Lets requests to some servers pass only when it allows them. Its methods do nothing for all others.

    They are called on the event loop of the call, and wait for nothing else. ``target`` has ``host`` and ``port``.
    """

    def refuse_hopeless(self, target: Target, seconds_left: float) -> None:
        """Raise an ``OutboundError`` if it is known that the deadline will pass before. Called before the slot."""

    async def wait(self, target: Target, seconds_left: float) -> None:
        """Return when the request may be sent, which it is then. Called with a slot of the server.

        Raises an ``OutboundError`` as soon as it is known that ``seconds_left`` are not enough.
        """

    def learn(
        self, target: Target, status: int, headers: Mapping[str, str], retry_after: float | None
    ) -> None:
        """Take note of a response, with the seconds of its ``Retry-After``. Called when its head has arrived."""


gates: list[Gate] = []


def add_gate(gate: Gate) -> None:
    """Ask this gate before each request from now on, in all threads. Called by ``AppConfig.ready()``."""
    gates.append(gate)
