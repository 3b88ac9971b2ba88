"""What ``jobs`` and ``engines`` call in the rooms above them, which set it here when the app is ready."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from typing import TYPE_CHECKING, Any, Protocol
from uuid import UUID

if TYPE_CHECKING:  # a backend is imported before the models are ready
    from notifications.models import Job


class EngineSenders(Protocol):
    """``engines.senders``: the systems that run the jobs of some backends."""

    def require_engine(self, alias: str, /) -> None:
        """Raise ``ImproperlyConfigured`` if the engine of a backend could never run a job."""

    def prepare(self, job: Job, /) -> None:
        """Choose the executor of a new job of an engine."""

    def send_after_commit(self, jobs: Iterable[Job], /) -> None:
        """Have new jobs dispatched to their engines after the commit."""

    def revoke(self, jobs: Iterable[Job], /) -> None:
        """Have the engines drop cancelled jobs."""


class Dispatching(Protocol):
    """``engines.dispatching``: the executors of queued jobs."""

    def take_back(self, ids: Collection[UUID], /) -> set[UUID]:
        """Have jobs that this process could not claim dispatched again. Return the ids whose rows are locked."""

    def move_to_configured_executors(self) -> int:
        """Move queued jobs whose backend has gained or lost its engine. Return how many."""


engines: EngineSenders
dispatching: Dispatching
#: The doorbell's functions ``listen(callback)``, which returns a function that ends it, and ``flush()``.
listen: Callable[..., Callable[[], Any]]
flush_rings: Callable[[], Any]
