"""Record attempts that did not succeed, and call the hooks of extensions around it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import chain
from typing import TypeVar

from notifications.db.transactions import database, retrying_atomic
from notifications.extension import RecordedTransaction, hooks
from notifications.jobs.notifying import insert_rows, prepare_hooks, wake_workers
from notifications.jobs.outcomes import Outcome
from notifications.models import Attempt

T = TypeVar("T")


def run_recording(write: Callable[[RecordedTransaction], T]) -> T:
    """Run a function that records attempts, but no ends, in a transaction of the app's own, and call the hooks."""
    tx = RecordedTransaction()

    def run() -> T:
        nonlocal tx
        tx = RecordedTransaction(has_run=True)
        result = write(tx)
        call_last(tx)
        return result

    prepare_hooks()
    result = retrying_atomic(run)
    call_after_commit(tx)
    return result


def record_attempts(outcomes: Sequence[Outcome], tx: RecordedTransaction) -> None:
    """Insert the attempts of these outcomes that did not succeed, and what extensions add.

    Inside a transaction that holds the rows of the jobs locked, before they are changed; ``call_last`` ends it.
    """
    Attempt.objects.using(database()).bulk_create(
        [
            Attempt(
                job_id=outcome.job.id,
                number=outcome.job.attempt,
                worker=outcome.job.worker,
                started_at=outcome.job.started_at,
                ended_at=tx.now,
                outcome=outcome.attempt,
                exception_class_path=outcome.exception_class_path,
                traceback=outcome.traceback,
                location=outcome.location,
            )
            for outcome in outcomes
            if outcome.attempt
        ]
    )
    wake_workers(insert_rows(chain.from_iterable([hook(outcomes, tx) for hook in hooks.on_attempts])))


def call_last(tx: RecordedTransaction) -> None:
    """Let extensions execute the last statements of a transaction."""
    for hook in hooks.last:
        hook(tx)


def call_after_commit(tx: RecordedTransaction) -> None:
    """Let extensions use what they have kept in a transaction that is committed."""
    for label, kept in tx.kept.items():
        if hook := hooks.after_commit.get(label):
            hook(kept)
