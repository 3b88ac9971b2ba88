"""The position check: what every process asks the database now and then, so that a lost ring only delays."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from notifications import streams
from notifications.streams import changes
from notifications.streams.changes import Position


@dataclass(frozen=True, kw_only=True, slots=True)
class PositionCheck:
    """The epoch, where the streams of users are, and sums over their active jobs."""

    epoch: str
    positions: dict[Any, Position]
    sums: dict[Any, tuple[int, int]]


def check_positions(users: list[Any]) -> PositionCheck:
    """Ask for the epoch, and for positions and active jobs of these users (keys)."""
    return PositionCheck(
        epoch=streams.epoch(), positions=changes.positions(users), sums=changes.read_active_sums(users)
    )
