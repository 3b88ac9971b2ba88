"""Record the outcomes of a worker's jobs in groups."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

from notifications.db.unavailable import UNAVAILABLE
from notifications.extension.calls import hook_of
from notifications.jobs import outcomes, results
from notifications.jobs.notifying import jobs_added
from notifications.jobs.outcomes import Outcome
from notifications.jobs.transitions.claimed_jobs import Claim, claim_of
from notifications.jobs.transitions.recording import finish_jobs
from notifications.worker import loops
from notifications.worker.state import WorkerState

logger = logging.getLogger("notifications.jobs")

#: Outcomes that one transaction records at most. Each numbers a job and a notification, which makes 100 rows: a full
#: pass of numbering on SQLite.
MAX_RECORD_BATCH = 50
#: Seconds at most between two looks at the outcomes that a hook holds up: the worker may stop meanwhile.
HELD_POLL_SECONDS = 1.0


class RecordLoop:
    """Records outcomes, and calls ``on_settled`` for each claim whose outcome is stored or void.

    Whose fault an error is decides what follows. While the database is away, all outcomes are kept. What a hook of an
    extension raises, and what the database says of the rows that it returned, is marked as the hook's (``hook_of``):
    its outcomes are kept too, and tried again by themselves until the hook works. Any other error is about the outcome
    alone, which becomes a failure.
    """

    def __init__(self, state: WorkerState, on_settled: Callable[[Claim], None]) -> None:
        self._state = state
        self._on_settled = on_settled
        self._outcomes: list[Outcome] = []
        #: Those that a hook holds up.
        self._held: dict[Claim, Outcome] = {}
        self._has_new = asyncio.Event()
        #: Claims whose outcome the database refuses. Their jobs stay running until their deadline is over.
        self.unstorable: set[Claim] = set()

    @property
    def is_empty(self) -> bool:
        return not self._outcomes and not self._held

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
            if self._held and (due := self._due_again()[:size]):
                for outcome in due:
                    self._state.held.begin_try(claim_of(outcome.job))
                await self._record_group(due)
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
                if (claim := claim_of(outcome.job)) not in settled and claim not in self._held
            ]
            self._outcomes[:] = self._outcomes[len(group) :] + unsettled
            unsettled_in_a_row = 0 if len(unsettled) < len(group) else unsettled_in_a_row + len(group)
            if self._outcomes and unsettled_in_a_row >= len(self._outcomes):
                unsettled_in_a_row = 0
                await loops.wait_for_event(self._has_new, loops.RETRY_INTERVAL_SECONDS)

    async def _wait_for_outcomes(self) -> None:
        if not self._held:
            await self._has_new.wait()
            return
        left = [self._seconds_to_next_try(claim) for claim in self._held]
        await loops.wait_for_event(self._has_new, max(0.0, min(*left, HELD_POLL_SECONDS)))

    def _seconds_to_next_try(self, claim: Claim) -> float:
        return self._state.held.seconds_to_next_try(claim, is_stopping=self._state.is_stopping)

    def _due_again(self) -> list[Outcome]:
        return [outcome for claim, outcome in self._held.items() if self._seconds_to_next_try(claim) <= 0]

    async def _record_group(self, group: list[Outcome]) -> set[Claim]:
        settled = await self._record(group)
        for claim in settled:
            self._held.pop(claim, None)
            self._state.held.release(claim)
            self._on_settled(claim)
        return settled

    async def _record(self, group: list[Outcome]) -> set[Claim]:
        try:
            return await self._state.writer.run(finish_jobs, group)
        except Exception as exc:
            # A hook may raise such an error of its own, for ever: then it is tried as any other of a hook.
            if isinstance(exc, UNAVAILABLE) and hook_of(exc) is None:
                logger.warning("Could not record %d outcomes, which is tried again: %s", len(group), exc)
                await asyncio.sleep(loops.RETRY_INTERVAL_SECONDS)
                return set()
        return await self._record_one_by_one(group)

    async def _record_one_by_one(self, group: Sequence[Outcome]) -> set[Claim]:
        """Record each outcome in a transaction of its own.

        One that the database refuses becomes a failure. One at which a hook fails is held, and holds up no other.
        """
        settled: set[Claim] = set()
        for outcome in group:
            job = outcome.job
            policy = results.policy_at(job.task_path)
            for is_replaced in (False, True):
                try:
                    # A replacement's notify function is not called: the other outcomes would wait for it.
                    refused = outcomes.failure(job, policy, "result-not-storable") if is_replaced else None
                    attempted = replace(refused, notify=None) if refused else outcome
                    record = partial(finish_jobs, [attempted], is_alone=True)
                    settled |= await self._state.writer.run(record)
                    break
                except Exception as exc:
                    if hook := hook_of(exc):
                        self._held[claim_of(job)] = outcome
                        await self._state.hold(outcome, hook, exc)
                        break
                    if isinstance(exc, UNAVAILABLE):
                        break  # it stays in the list
                    logger.exception("Could not store the outcome of job %s", job.id)
            else:
                self.unstorable.add(claim_of(job))
                settled.add(claim_of(job))
        return settled
