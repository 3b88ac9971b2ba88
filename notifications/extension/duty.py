"""What some process must do every so often."""

from __future__ import annotations

import enum
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import islice
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


#: Seconds until a duty is done again for a subject at which it has failed, at first and at most.
FIRST_PAUSE_SECONDS, MAX_PAUSE_SECONDS = 1.0, 600.0
#: The same at most for a duty without subjects, which then does nothing.
MAX_DUTY_PAUSE_SECONDS = 30.0
#: Subjects of a duty that a process leaves out because it has failed at them. Beyond that the first are tried again.
MAX_PUT_OFF = 10_000
#: SQL with its parameters.
Condition = tuple[str, Sequence[Any]]


def pause_after(failures: int, at_most: float = MAX_PAUSE_SECONDS) -> float:
    """Return the seconds until what has failed so often is tried again."""
    return min(FIRST_PAUSE_SECONDS * 2 ** min(failures - 1, 20), at_most)


class Subjects:
    """What a duty is done for, and what of it is left to do in this process.

    ``find``
        Yields ids, and reads no more than a page of them at once.
    ``size``
        How many of them one call gets at most.
    ``calls_project``
        The duty calls code of the project, so it is done on a thread of its own.
    """

    def __init__(
        self, find: Callable[[], Iterable[Any]], size: int = 1, *, calls_project: bool = False
    ) -> None:
        self.calls_project = calls_project
        self._find, self.size = find, size
        self._found: Iterator[Any] | None = None
        self._next: deque[list[Any]] = deque()
        #: How often the duty has failed at a subject, and until when it is left out (monotonic).
        self._put_off: dict[Any, tuple[int, float]] = {}

    def take(self) -> list[Any]:
        """Return the subjects of the next call; none if all were done once. Then they are searched for anew."""
        if self._next:
            return self._next.popleft()
        if self._found is None:
            self._found = iter(self._find())
        now = time.monotonic()
        due = (each for each in self._found if self._put_off.get(each, (0, now))[1] <= now)
        if not (group := list(islice(due, self.size))):
            self._found = None
        return group

    def add(self, subjects: Iterable[Any]) -> None:
        """Have these be done next."""
        source = iter(subjects)
        while group := list(islice(source, self.size)):
            self._next.append(group)

    def finish(self, group: Iterable[Any]) -> None:
        """Note that the duty has not failed at these."""
        if self._put_off:
            for subject in group:
                self._put_off.pop(subject, None)

    def fail(self, group: Sequence[Any]) -> int:
        """Have each of these be done by itself, or put off the only one. Return how often it has failed, 0 for many."""
        if len(group) > 1:
            self._next.extend([subject] for subject in group)
            return 0
        [subject] = group
        failures = self._put_off.pop(subject, (0, 0.0))[0] + 1
        if len(self._put_off) >= MAX_PUT_OFF:
            self._put_off.pop(next(iter(self._put_off)))
        self._put_off[subject] = failures, time.monotonic() + pause_after(failures)
        return failures

    def forget(self) -> None:
        """Search for the subjects anew."""
        self._found = None
        self._next.clear()


@dataclass(slots=True, eq=False)
class Duty:
    """Something to do ``every`` so many seconds, and in the next round if ``run`` returns True: it has more to do.

    What is done for many rows, keys or questions has ``subjects``, and does not loop.

    ``subjects``
        What there is to do, as ids. ``run`` is called with lists of them, and makes one transaction of each. What it
        returns are those that it has left, which are done next. Where it fails at a list, each of it is done by itself;
        one at which it fails then is logged, and left out for longer each time. So it holds up no other.
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
    run: Callable[..., object]
    where: Where = Where.LASTING
    is_for_each_process: bool = False
    at_start: bool = False
    condition: Callable[[], Condition] | None = None
    has_own_loop: bool = False
    subjects: Subjects | None = None
    due_at: float = field(default_factory=time.monotonic)
    #: While this process does it for all: what it has stored in the row, and until when that holds (monotonic).
    claimed: datetime | None = None
    claimed_until: float = 0.0
    #: When it was last run before, by any process.
    previous_run: datetime | None = None
    #: Whether the last run has left something to do. Only then does this process go on with it before it is due again.
    _has_more: bool = False
    #: How often it has failed in a row.
    _failures: int = 0

    @property
    def interval(self) -> float | None:
        """Seconds between two runs. None: it is never run."""
        return self.every() if callable(self.every) else self.every
