"""Claim jobs without a worker."""

from notifications.jobs.claiming.sources import builtin_source
from notifications.jobs.transitions import claims


def claim_rows(worker, limit, *, queues=(), **options):
    """Claim jobs and return their rows: those of the built-in worker, from these queues or all."""
    options = {"source": builtin_source(queues), **options}
    return [claimed.row for claimed in claims.claim_jobs(worker, limit, **options)]
