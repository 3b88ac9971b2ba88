"""What extensions ask before each request of a call, and learn from its response.

An extension has a module ``gates``, whose ``GATE`` is one: ``notifications/contrib/rates/gates.py`` for example. The
first call of a process imports it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from notifications.compat import is_test_runner
from notifications.extension import hooks

from .call import Call
from .guard import Target

#: Whether gates are asked under a test runner too, where transactions of test cases hide rows from other threads.
enabled_in_tests = False


class Gate:
    """Lets requests to some servers pass only when it allows them. Its methods do nothing for all others.

    They are called on the event loop of the call, and wait for nothing else.

    ``call``
        Has ``seconds_left`` until its deadline, and ``is_user_url``: whether a user has chosen the URL.
    ``target``
        Has ``host`` and ``port``.
    """

    def refuse_hopeless(self, call: Call, target: Target) -> None:
        """Raise an ``OutboundError`` if it is known that the deadline will pass before. Called before the slot."""

    async def wait(self, call: Call, target: Target) -> None:
        """Return when the request may be sent, which it is then. Called with a slot of the server.

        Raises an ``OutboundError`` as soon as it is known that the deadline will pass before.
        """

    def learn(
        self, call: Call, target: Target, status: int, headers: Mapping[str, str], retry_after: float | None
    ) -> None:
        """Take note of a response, with the seconds of its ``Retry-After``. Called when its head has arrived."""


def read_gates() -> Sequence[Gate]:
    """Return the gates of the installed extensions; none in a program that has not set Django up."""
    gates = [module.GATE for module in hooks.find_modules("gates").values()]
    return () if gates and is_test_runner() and not enabled_in_tests else gates
