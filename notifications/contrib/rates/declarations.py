"""The rates that ``NOTIFICATIONS["RATES"]`` declares.

A rate of 100 a minute with a burst of 10 allows at most 110 in any minute. The row of a limit spaces what it allows by
``interval``, and allows ``burst_at_once`` after a pause. Between a token and the start or call that it is for pass up
to ``TOKEN_VALID_SECONDS``, which the two leave room for: see ``Rate``.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from notifications.conf import cached_until_changed, settings
from notifications.extension import WrongDeclaration

#: Seconds for which a process may use a token that it has taken: for a call, or the start of a job that it has claimed.
TOKEN_VALID_SECONDS = 1.0
#: Jobs join the queue so seldom that this time has enough tokens for them, or half a burst.
OPENING_SECONDS = 0.25
#: Seconds of each unit. A rate a second is one of 60 times as many a minute: no shorter time is counted.
UNITS = {"s": 60, "m": 60, "h": 3_600, "d": 86_400}
#: Characters of a name.
MAX_NAME_LENGTH = 50

_RATE = re.compile(r"(?P<count>[1-9][0-9]{0,8})/(?P<unit>[smhd])")
_NAME = re.compile(rf"[A-Za-z0-9_.-]{{1,{MAX_NAME_LENGTH}}}")
_HOST = re.compile(r"[a-z0-9.\-\[\]:]{1,253}")
_EXAMPLE = 'Write "100/m", or {"rate": "60/m", "burst": 10, "hosts": ["api.example.com"]}. Units: s, m, h, d.'


@dataclass(frozen=True, kw_only=True, slots=True)
class Rate:
    """A declared rate: over any ``seconds`` at most ``count + burst``.

    ``text``
        As it is declared: ``"100/m"``.
    ``hosts``
        Names of hosts, lower case, with ``:port`` or without: calls to them count by themselves.
    """

    name: str
    text: str
    count: int
    seconds: int
    burst: int
    hosts: tuple[str, ...] = ()

    @property
    def _spare(self) -> int:
        """The part of the burst that makes up for tokens which are used up to ``TOKEN_VALID_SECONDS`` later."""
        return min(self.burst - 1, math.ceil(self.count * TOKEN_VALID_SECONDS / self.seconds))

    @property
    def interval(self) -> int:
        """Microseconds between two tokens.

        In ``seconds + TOKEN_VALID_SECONDS`` fewer than ``count + spare + 1`` intervals pass, so that tokens of
        ``seconds`` are at most ``count + spare + burst_at_once``. If the burst is too small for that, they are a little
        longer.
        """
        shortest = self.seconds / self.count
        longest = (self.seconds + TOKEN_VALID_SECONDS) / (self.count + self._spare + 1)
        return max(math.ceil(shortest * 1e6), math.floor(longest * 1e6) + 1)

    @property
    def burst_at_once(self) -> int:
        """Tokens that a limit gives at once after a pause."""
        return self.burst - self._spare

    @property
    def opening(self) -> int:
        """Tokens that there are again when jobs that wait join the queue."""
        return max(1, min(self.burst_at_once // 2, int(OPENING_SECONDS * self.count / self.seconds)))


class Declarations(NamedTuple):
    """The valid rates by name, by host, and what is wrong with the others."""

    by_name: Mapping[str, Rate]
    by_host: Mapping[str, Rate]
    wrong: tuple[WrongDeclaration, ...]


@cached_until_changed("NOTIFICATIONS")
def read_rates() -> Declarations:
    """Return what ``NOTIFICATIONS["RATES"]`` declares."""
    by_name: dict[str, Rate] = {}
    by_host: dict[str, Rate] = {}
    wrong: list[WrongDeclaration] = []
    for name, value in settings.RATES.items():
        try:
            rate = _parse(name, value)
        except ValueError as exc:
            message = f"NOTIFICATIONS['RATES'][{name!r}]: {exc} What it limits is not limited."
            wrong.append(WrongDeclaration("notifications.W046", message, _EXAMPLE))
            continue
        by_name[name] = rate
        for host in rate.hosts:
            if host in by_host:
                message = f"{host} is a host of the rates {by_host[host].name!r} and {name!r}. The first one counts."
                hint = "Leave the host in one of them."
                wrong.append(WrongDeclaration("notifications.W047", message, hint))
            by_host.setdefault(host, rate)
    return Declarations(by_name, by_host, tuple(wrong))


def name_of(key: str) -> str:
    """Return the name of the rate of a key: that of ``"partner:42"`` is ``"partner"``."""
    return key.partition(":")[0]


def rate_of(key: str) -> Rate | None:
    """Return the rate of a key, None if it is not declared, or declared wrongly."""
    return read_rates().by_name.get(name_of(key))


def _parse(name: Any, value: Any) -> Rate:
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise ValueError(
            f"The name must be 1 to {MAX_NAME_LENGTH} letters, digits, dots, dashes and underscores."
        )
    options = value if isinstance(value, dict) else {"rate": value}
    if unknown := sorted(map(str, options.keys() - {"rate", "burst", "hosts"})):
        raise ValueError(f"There is no option {unknown[0]!r}.")
    text = options.get("rate")
    match = _RATE.fullmatch(text) if isinstance(text, str) else None
    if match is None:
        raise ValueError(f"{text!r} is no rate.")
    seconds = UNITS[match["unit"]]
    count = int(match["count"]) * (60 if match["unit"] == "s" else 1)
    burst = options.get("burst", max(1, count // 10))
    if isinstance(burst, bool) or not isinstance(burst, int) or not 1 <= burst <= count:
        raise ValueError(f"The burst {burst!r} is no integer from 1 to {count}, the rate of {seconds} s.")
    hosts = options.get("hosts", ())
    if not isinstance(hosts, list | tuple) or not all(
        isinstance(host, str) and _HOST.fullmatch(host) for host in hosts
    ):
        raise ValueError(f"{hosts!r} is no list of host names, in lower case and without a scheme.")
    return Rate(name=name, text=str(text), count=count, seconds=seconds, burst=burst, hosts=tuple(hosts))
