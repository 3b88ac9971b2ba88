"""The state of this process's outbound calls, for operators."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass

from .circuits import circuits
from .resolver import lookups
from .slots import slots

#: The origins in ``as_json()``: those with the most trouble.
MAX_ORIGINS_LISTED = 20


@dataclass(frozen=True, kw_only=True, slots=True)
class Origin:
    """One origin: ``busy`` calls are under way and ``waiting`` calls wait for a slot.

    ``circuit`` is ``open`` or ``half-open`` if a circuit of one caller or the shared one is, else ``closed``.
    ``failed`` of ``calls`` have failed recently.
    """

    origin: str
    busy: int
    waiting: int
    circuit: str
    failed: int
    calls: int


@dataclass(frozen=True, kw_only=True, slots=True)
class State:
    """``busy`` of ``total`` slots are taken.

    ``looking_up`` names are being resolved, and ``names_waiting`` wait for a thread.
    """

    busy: int
    total: int
    looking_up: int
    names_waiting: int
    origins: tuple[Origin, ...]


def state() -> State:
    """Return the state of this process, with each origin that is called, waited for, or has failed recently."""
    busy, total, slots_by_origin = slots.state()
    circuits_by_origin = {known.origin: known for known in circuits.all()}
    failing = {
        known.origin for known in circuits_by_origin.values() if known.counts[0] or known.state != "closed"
    }
    origins = []
    for origin in sorted(slots_by_origin.keys() | failing):
        taken, waiting = slots_by_origin.get(origin, (0, 0))
        known = circuits_by_origin.get(origin)
        failed, calls = known.counts if known else (0, 0)
        circuit = known.state if known else "closed"
        origins.append(
            Origin(origin=origin, busy=taken, waiting=waiting, circuit=circuit, failed=failed, calls=calls)
        )
    return State(
        busy=busy,
        total=total,
        looking_up=len(lookups.running),
        names_waiting=len(set(lookups.waiting)),
        origins=tuple(origins),
    )


def as_json() -> str:
    """Return the state of this process as a JSON object.

    It has the ``MAX_ORIGINS_LISTED`` origins with the most trouble, and the sum of ``waiting`` over all origins.
    """
    current = state()
    worst_first = sorted(
        current.origins, key=lambda item: (item.circuit == "closed", -item.waiting, -item.failed, item.origin)
    )
    listed = asdict(current) | {
        "waiting": sum(item.waiting for item in current.origins),
        "origins": [asdict(item) for item in worst_first[:MAX_ORIGINS_LISTED]],
    }
    return json.dumps(listed)
