"""Find out whether the database takes an outcome, without recording it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress

from notifications.db.transactions import retrying_atomic
from notifications.jobs.outcomes import Outcome
from notifications.jobs.transitions.recording import record_outcomes


class _Undone(Exception):
    """Rolls the transaction back that was a trial."""


def try_to_record(group: Sequence[Outcome]) -> None:
    """Raise what the database says of these outcomes. They are not recorded."""
    with suppress(_Undone):
        record_outcomes(group, run=_write_and_undo)


def _write_and_undo(write: Callable[[], bool]) -> bool:
    def undone() -> bool:
        write()
        raise _Undone

    return retrying_atomic(undone)
