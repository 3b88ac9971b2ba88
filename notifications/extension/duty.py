"""What some process must do every so often."""

from __future__ import annotations

import enum
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any


class Where(enum.Flag):
    """The kinds of processes that last."""

    #: One with the built-in worker: ``run_jobs``, a server with the embedded worker, a process of an engine.
    WORKER = enum.auto()
    #: One of a project whose jobs an engine runs: an ASGI server, or a process of the engine that claims none itself.
    ENGINE = enum.auto()
    #: Each ASGI server. It may have an upkeep of another kind too.
    SERVER = enum.auto()
    #: In each arrangement of processes there is one of these, as far as there are jobs.
    LASTING = WORKER | ENGINE
    EVERYWHERE = LASTING | SERVER


#: SQL with its parameters.
Condition = tuple[str, Sequence[Any]]


@dataclass(slots=True, eq=False)
class Duty:
    """Something to do ``every`` so many seconds, and in the next round if ``run`` returns True: it has more to do.

    ``every``
        Seconds, or a function that returns them, None for never.
    ``where``
        The processes that do it.
    ``is_for_each_process``
        All of them do, because it costs little, finds its rows locked where another process is at them, or concerns
        the process itself. Otherwise one of them does, which the row of the duty elects.
    ``at_start``
        Each process also does it once, when it has started.
    ``condition``
        Returns SQL, and its parameters, that is true if there is something to do. Those of all duties are one query,
        which takes a twentieth of the time that they take to find nothing. Without something to do no process is
        elected, which would be a transaction each time.
    ``has_own_loop``
        A worker does it in a loop of its own, on a thread for code of the project, because it may be due within
        milliseconds: ``run`` returns the seconds until it is called again, and ``every`` has no meaning. Only
        schedules need that.
    ``due_at``
        When it is due in this process (monotonic): to be done, or to look whether another process has done it.
    """

    name: str
    every: float | Callable[[], float | None]
    run: Callable[[], object]
    where: Where = Where.LASTING
    is_for_each_process: bool = False
    at_start: bool = False
    condition: Callable[[], Condition] | None = None
    has_own_loop: bool = False
    due_at: float = field(default_factory=time.monotonic)
    #: While this process does it for all: what it has stored in the row, and until when that holds (monotonic).
    claimed: datetime | None = None
    claimed_until: float = 0.0
    #: Whether the last run has left something to do. Only then does this process go on with it before it is due again.
    has_more: bool = False
    #: When it was last run before, by any process.
    previous_run: datetime | None = None

    @property
    def interval(self) -> float | None:
        """Seconds between two runs. None: it is never run."""
        return self.every() if callable(self.every) else self.every
