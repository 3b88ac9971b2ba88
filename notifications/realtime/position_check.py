"""Read the positions of connected users, which every process does every 5 s, so that a lost ring is only a delay."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from notifications import streams
from notifications.streams import changes
from notifications.streams.changes import Position


@dataclass(frozen=True, kw_only=True, slots=True)
class PositionCheck:
    """The epoch, stream positions by user, and checksums of active jobs by user."""

    epoch: str
    positions: dict[Any, Position]
    active_sums: dict[Any, tuple[int, int]]


def check_positions(users: list[Any]) -> PositionCheck:
    """Read the positions and active jobs of these user keys. Runs in a thread."""
    return PositionCheck(
        epoch=streams.epoch(), positions=changes.positions(users), active_sums=changes.read_active_sums(users)
    )
