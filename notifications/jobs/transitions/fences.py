"""Fences: the numbers by which a change of a running job is refused when the job has been claimed again.

A claim on PostgreSQL does not wait for the disk, so a crash of the server may undo it while its worker executes the
job. The job is queued again then, with its earlier fence. If a claim added 1, the next one would get the same fence,
and what the first execution records would be taken for that of the second one. So a claim puts the time into the fence,
in ms, above the lowest bits, which count.
"""

from __future__ import annotations

#: Bits of a fence that count how often it was raised.
COUNT_BITS = 20
_MAX_COUNT = 2**COUNT_BITS - 1


def claim_fence_sql(now: str) -> str:
    """Return SQL for the fence of a claim on PostgreSQL. ``now`` is SQL for the time of the database."""
    return f"((extract(epoch FROM {now}) * 1000)::bigint << {COUNT_BITS}) | ((fence + 1) & {_MAX_COUNT})"


def raise_count(fence: int) -> int:
    """Return how often a fence was raised."""
    return fence & _MAX_COUNT
