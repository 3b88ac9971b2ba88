"""Record the outcomes of a worker's jobs in groups."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import replace
from typing import TypeVar

from notifications.db.transactions import chunks
from notifications.db.unavailable import is_away, log_retried
from notifications.jobs import outcomes, results
from notifications.jobs.notifying import jobs_added
from notifications.jobs.outcomes import Outcome
from notifications.jobs.transitions.recording import finish_jobs, try_to_record
from notifications.jobs.transitions.running import Claim, claim_of
from notifications.worker import loops
from notifications.worker.state import WorkerState

logger = logging.getLogger("notifications.jobs")
T = TypeVar("T")

#: Outcomes that one transaction records at most. Each numbers a job and a notification, which makes 100 rows: a full
#: pass of numbering on SQLite.
MAX_RECORD_BATCH = 50
#: Seconds between two tries of outcomes of which the database refuses even a failure.
REFUSED_INTERVAL_SECONDS = 2.0
#: Such outcomes whose jobs have no slot any more. Of more than that the slots are kept, so that no more jobs begin.
MAX_REFUSED = 100


class RecordLoop:
    """Records outcomes, and calls ``on_settled`` for each claim whose outcome is stored or void.

    While the database is away, all outcomes are kept. Any other error may be about a value of the outcome, which
    becomes a failure without it. If the database refuses that too, no value is at fault: the outcome is kept, whatever
    the error is.
    """

    def __init__(self, state: WorkerState, on_settled: Callable[[Claim], None]) -> None:
        self._state = state
        self._on_settled = on_settled
        self._outcomes: list[Outcome] = []
        self._has_new = asyncio.Event()
        #: Those of which the database refuses even a failure. Their jobs have no slot, and stay running.
        self.refused: dict[Claim, Outcome] = {}
        self._refused_due_at = 0.0

    @property
    def is_empty(self) -> bool:
        return not self._outcomes and not self.refused

    def add(self, outcome: Outcome) -> None:
        """Take an outcome to be recorded, on the event loop."""
        self._outcomes.append(outcome)
        self._has_new.set()

    async def run(self) -> None:
        unsettled_in_a_row = 0
        while True:
            if not self._outcomes:
                await self._wait_for_outcomes()
            # The jobs of handlers and webhooks are rows too, for which others would wait longer.
            size = max(1, int(2 * MAX_RECORD_BATCH / (2 + jobs_added["ends"])))
            if self.refused and self._refused_due_at <= time.monotonic():
                for group in list(chunks(self.refused.values(), size)):
                    await self._record_group(group)
                self._refused_due_at = time.monotonic() + REFUSED_INTERVAL_SECONDS
            if not self._outcomes:
                continue
            self._has_new.clear()
            # Outcomes stay in the list until they are settled, so that no error loses one.
            group = self._outcomes[:size]
            settled = await self._record_group(group)
            # Outcomes whose rows are locked go to the end of the list, so that they delay no other.
            unsettled = [
                outcome
                for outcome in group
                if (claim := claim_of(outcome.job)) not in settled and claim not in self.refused
            ]
            self._outcomes[:] = self._outcomes[len(group) :] + unsettled
            unsettled_in_a_row = 0 if len(unsettled) < len(group) else unsettled_in_a_row + len(group)
            if self._outcomes and unsettled_in_a_row >= len(self._outcomes):
                unsettled_in_a_row = 0
                await loops.wait_for_event(self._has_new, loops.RETRY_INTERVAL_SECONDS)

    async def _wait_for_outcomes(self) -> None:
        if self.refused:
            await loops.wait_for_event(self._has_new, max(0.0, self._refused_due_at - time.monotonic()))
        else:
            await self._has_new.wait()

    async def _record_group(self, group: list[Outcome]) -> set[Claim]:
        settled = await self._record(group)
        for claim in settled:
            self.refused.pop(claim, None)
            self._on_settled(claim)
        return settled

    async def _record(self, group: list[Outcome]) -> set[Claim]:
        settled, error = await self._try(finish_jobs, group)
        if error is None or is_away(error):
            return settled or set()
        return set().union(*[await self._record_alone(outcome) for outcome in group])

    async def _try(self, record: Callable[..., T], group: list[Outcome]) -> tuple[T | None, Exception | None]:
        """Return what ``record`` returns, or its error. After one that means that the database is away it waits."""
        try:
            return await self._state.writer.run(record, group), None
        except Exception as exc:
            if is_away(exc):
                log_retried(logger, "Could not record outcomes, which is tried again", exc)
                await asyncio.sleep(loops.RETRY_INTERVAL_SECONDS)
            return None, exc

    async def _record_alone(self, outcome: Outcome) -> set[Claim]:
        """Record an outcome in a transaction of its own.

        One that the database refuses, while it takes a failure in its place, becomes that failure. It is tried again
        in between, because the database may have become well in the meantime.
        """
        claim = claim_of(outcome.job)
        tries: tuple[tuple[bool, Callable[..., set[Claim] | None]], ...] = (
            (False, finish_jobs),
            (True, try_to_record),
            (False, finish_jobs),
            (True, finish_jobs),
        )
        for is_plain, record in tries:
            settled, error = await self._try(record, [_without_values(outcome) if is_plain else outcome])
            if settled is not None:
                return settled
            if error is None:
                continue
            if is_away(error):
                break  # it stays where it is
            if claim not in self.refused:
                logger.error("Could not store the outcome of job %s", outcome.job.id, exc_info=error)
            if is_plain:
                self._keep_refused(claim, outcome)
                break
        return set()

    def _keep_refused(self, claim: Claim, outcome: Outcome) -> None:
        if claim not in self.refused and len(self.refused) < MAX_REFUSED:
            self.refused[claim] = outcome
            self._refused_due_at = time.monotonic() + REFUSED_INTERVAL_SECONDS
            self._on_settled(claim)


def _without_values(outcome: Outcome) -> Outcome:
    """Return the failure that stands for an outcome which cannot be stored."""
    failure = outcomes.failure(outcome.job, results.policy_at(outcome.job.task_path), "result-not-storable")
    return replace(failure, notify=None)  # the other outcomes would wait for the function
