"""What the outbound calls of this process are doing, for people who operate it."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass

from .circuits import circuits
from .resolver import lookups
from .slots import slots

#: Origins that others are told of, at most: those with the most trouble.
MAX_ORIGINS_LISTED = 20


@dataclass(frozen=True, kw_only=True, slots=True)
class Origin:
    """``busy`` calls under way and ``waiting`` ones for a place.

    ``circuit`` is ``open`` or ``half-open`` if it is so for one caller or for all, else ``closed``; ``failed`` of
    ``calls`` have failed lately.
    """

    origin: str
    busy: int
    waiting: int
    circuit: str
    failed: int
    calls: int


@dataclass(frozen=True, kw_only=True, slots=True)
class State:
    """``busy`` of ``total`` places are taken.

    ``looking_up`` names are being looked up, and ``names_waiting`` wait for that.
    """

    busy: int
    total: int
    looking_up: int
    names_waiting: int
    origins: tuple[Origin, ...]


def state() -> State:
    """Return the state of this process: of the origins that are called now, waited for, or have failed lately."""
    busy, total, places = slots.state()
    known = {breaker.origin: breaker for breaker in circuits.all()}
    origins = []
    for origin in sorted(
        places.keys()
        | {at for at, breaker in known.items() if breaker.of_all.counts[0] or breaker.state != "closed"}
    ):
        taken, waiting = places.get(origin, (0, 0))
        failed, calls = known[origin].of_all.counts if origin in known else (0, 0)
        circuit = known[origin].state if origin in known else "closed"
        origins.append(
            Origin(origin=origin, busy=taken, waiting=waiting, circuit=circuit, failed=failed, calls=calls)
        )
    looking_up, names_waiting = lookups.state()
    return State(
        busy=busy, total=total, looking_up=looking_up, names_waiting=names_waiting, origins=tuple(origins)
    )


def as_json() -> str:
    """Return the state of this process as a JSON object.

    It has the ``MAX_ORIGINS_LISTED`` worst origins, and ``waiting`` of all.
    """
    now = state()
    worst = sorted(now.origins, key=lambda at: (at.circuit == "closed", -at.waiting, -at.failed, at.origin))
    told = asdict(now) | {
        "waiting": sum(at.waiting for at in now.origins),
        "origins": [asdict(at) for at in worst[:MAX_ORIGINS_LISTED]],
    }
    return json.dumps(told)
