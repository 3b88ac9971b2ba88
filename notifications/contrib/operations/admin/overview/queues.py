"""What waits and runs in each queue now."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from notifications.jobs.claiming.depths import MAX_QUEUES, QueueDepth, queue_depths, read_running
from notifications.jobs.claiming.queues import paused_queues


@dataclass(frozen=True, kw_only=True, slots=True)
class QueueState:
    """One queue: ``due`` jobs may start now, ``delayed`` ones later, ``running`` ones are with a worker.

    With ``is_capped`` more are due, with ``is_delayed_capped`` more are delayed. ``wait_seconds`` is how long the
    oldest due job has waited.
    """

    name: str
    due: int = 0
    delayed: int = 0
    is_capped: bool = False
    is_delayed_capped: bool = False
    is_paused: bool = False
    running: int = 0
    wait_seconds: float | None = None


def read_queues(now: datetime) -> list[QueueState]:
    """Return the queues in which jobs wait or run, and paused ones, by name, in three queries."""
    depths = {depth.name: depth for depth in queue_depths().queues}
    running = read_running()
    paused = set(paused_queues().order_by("name")[:MAX_QUEUES])
    return [
        _queue(
            name,
            depths.get(name),
            running[name].count if name in running else 0,
            now,
            is_paused=name in paused,
        )
        for name in sorted(depths.keys() | running.keys() | paused)
    ]


def _queue(
    name: str, depth: QueueDepth | None, running: int, now: datetime, *, is_paused: bool
) -> QueueState:
    if depth is None:
        return QueueState(name=name, running=running, is_paused=is_paused)
    since = depth.oldest_since
    return QueueState(
        name=name,
        due=depth.due,
        delayed=depth.delayed,
        is_capped=depth.is_capped,
        is_delayed_capped=depth.is_delayed_capped,
        is_paused=depth.is_paused,
        running=running,
        wait_seconds=max(0.0, (now - since).total_seconds()) if since else None,
    )
