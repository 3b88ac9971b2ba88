"""How engines learn of jobs: other systems that run the jobs of backends with the option ``engine`` in ``TASKS``."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured

from notifications.extension import shipped

if TYPE_CHECKING:  # a backend is imported before the models are ready
    from notifications.models import Job


class Dispatch:
    """What the core calls for the jobs of backends with an engine.

    Without an extension that has engines this class is called, by which nobody is woken. The built-in worker runs the
    jobs of all other backends itself.
    """

    def require(self, alias: str) -> None:
        """Raise ``ImproperlyConfigured`` if the engine of a backend could never run a job."""
        raise ImproperlyConfigured(f"The backend {alias!r} of TASKS has an engine. {self.remedy()}")

    def remedy(self) -> str:
        """Return which app to install, for a backend with an engine."""
        return shipped.describe_remedy(shipped.find_app(lambda extension: "dispatch" in vars(extension)))

    def wake_after_commit(self, jobs: Iterable[Job]) -> None:
        """Have processes of engines look for jobs that join the queue, after the current transaction commits.

        They may be of any backends. Those with a ``due_at`` are scheduled, and looked for when they are due.
        """

    def wake_for_queue(self, name: str) -> None:
        """Have processes of engines look for the jobs of a queue that is not paused any more."""

    def label_of(self, alias: str) -> str:
        """Return what to call the engine of a backend, even if it cannot be set up or is not in ``TASKS`` any more."""
        return str(getattr(settings, "TASKS", {}).get(alias, {}).get("OPTIONS", {}).get("engine") or alias)

    def start_advice(self) -> str:
        """Return how to start processes of the engines, "" without engines."""
        return ""

    def find_missing_process(self) -> str:
        """Return why no process of an engine runs jobs, "" if they run or that is not known. For readiness."""
        return ""

    def taken_queues(self) -> dict[str, set[str]]:
        """Return the queues that live processes of engines take, by backend, as far as that is known."""
        return {}

    def describe_unserved(self, job: Job) -> tuple[str, str]:
        """Return why a job of another queue waits, and one sentence on what to do, for the log."""
        return f"No process takes queue {job.queue_name}", ""

    def start_in_server(self) -> None:
        """Begin to do the upkeep in this server process, on a thread. Raises ``NoThread``."""
