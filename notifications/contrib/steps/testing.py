"""The steps of jobs, to be read in assertions."""

from __future__ import annotations

from typing import Any
from uuid import UUID


def steps(job: Any) -> dict[str, Any]:
    """Return the stored results of a job's steps by name, in the order in which they were stored.

    ``job`` is what ``enqueue`` returned, or an id::

        result = ship.enqueue(order.pk)
        run_jobs()
        assert steps(result) == {"charge": {"id": "ch_1"}, "label": {"number": 7}}
    """
    from notifications.contrib.steps.listing import read_results

    id = getattr(job, "id", job)
    return read_results(id if isinstance(id, UUID) else UUID(id))
