"""The outcomes of a worker that wait until a hook of an extension works again."""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from notifications.db.unavailable import is_log_due
from notifications.extension.calls import HookName
from notifications.jobs.transitions.claimed_jobs import Claim, claim_of
from notifications.models import Job

logger = logging.getLogger("notifications.jobs")

#: Seconds until the first try, and at most between two.
FIRST_PAUSE_SECONDS, MAX_PAUSE_SECONDS = 0.5, 30.0


@dataclass(slots=True)
class _Held:
    job: Job
    hook: HookName
    tries: int = 0
    due_at: float = 0.0


class HeldOutcomes:
    """The jobs of one worker that are done, and whose outcome a hook holds up, with the time of the next try.

    Their slots and claims are kept, so the work is not done twice, and their deadlines are extended.
    """

    def __init__(self) -> None:
        self._held: dict[Claim, _Held] = {}

    def __len__(self) -> int:
        return len(self._held)

    @property
    def jobs(self) -> list[Job]:
        return [held.job for held in self._held.values()]

    def hold(self, job: Job, hook: HookName, exc: BaseException) -> float:
        """Note that a hook has failed at the outcome of a job. Returns the seconds until the next try."""
        held = self._held.setdefault(claim_of(job), _Held(job, hook))
        held.hook = hook
        pause = min(FIRST_PAUSE_SECONDS * 2**held.tries, MAX_PAUSE_SECONDS)
        held.tries = min(held.tries + 1, 10)
        held.due_at = time.monotonic() + pause
        if is_log_due(f"hook {hook}"):
            logger.error(
                "Hook failed, outcomes wait until it works: %s; outcomes that wait: %d",
                hook,
                self.count_by_hook()[str(hook)],
                exc_info=exc,
            )
        return pause

    def begin_try(self, claim: Claim) -> None:
        """Note that an outcome is tried again now. If its row is locked, the next try follows after a pause."""
        self._held[claim].due_at = time.monotonic() + FIRST_PAUSE_SECONDS

    def release(self, claim: Claim) -> bool:
        """Note that an outcome is recorded, or void. Returns whether a hook had held it up: others are tried now."""
        held = self._held.pop(claim, None)
        if held is None:
            return False
        if not any(other.hook == held.hook for other in self._held.values()):
            logger.warning("Hook works again, all outcomes that waited are recorded: %s", held.hook)
        for other in self._held.values():
            other.due_at = 0.0
        return True

    def seconds_to_next_try(self, claim: Claim, *, is_stopping: bool) -> float:
        """Return the seconds until an outcome is tried again. A worker that stops has no time for long pauses."""
        left = self._held[claim].due_at - time.monotonic()
        return min(left, FIRST_PAUSE_SECONDS) if is_stopping else left

    def count_by_hook(self) -> Mapping[str, int]:
        """Return how many outcomes each hook holds up. Called on any thread."""
        return Counter(str(held.hook) for held in list(self._held.values()))
