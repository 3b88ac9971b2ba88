"""What the statistics add to the recording of jobs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from notifications.extension import Extension, RecordedTransaction, Rows
from notifications.models import Job
from notifications.statistics.recording import StatisticsBuffer

if TYPE_CHECKING:
    from notifications.jobs.outcomes import Outcome


class Statistics(Extension):
    """Counts ends of jobs and attempts in the transaction that records them."""

    name = "notifications.statistics"
    label = "notifications_statistics"

    def on_attempts(self, outcomes: Sequence[Outcome], tx: RecordedTransaction) -> Rows:
        assert tx.now is not None
        buffer = self._buffer(tx)
        for outcome in outcomes:
            if outcome.attempt:
                buffer.add_attempt(outcome.job, outcome, tx.now)
        return ()

    def on_ends(self, outcomes: Sequence[Outcome], tx: RecordedTransaction) -> Rows:
        assert tx.now is not None
        buffer = self._buffer(tx)
        for outcome in outcomes:
            if outcome.job.state != Job.State.WAITING:
                buffer.add_end(outcome.job, tx.now, has_run=tx.has_run)
        return ()

    def last(self, tx: RecordedTransaction) -> None:
        if buffer := tx.kept.get(self.label):
            buffer.write()

    def _buffer(self, tx: RecordedTransaction) -> StatisticsBuffer:
        buffer: StatisticsBuffer = tx.kept.setdefault(self.label, StatisticsBuffer())
        return buffer
