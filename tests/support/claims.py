"""Claim jobs without a worker."""

from notifications.jobs.transitions import claims


def claim_rows(worker, limit, **options):
    """Claim jobs and return their rows."""
    return [claimed.row for claimed in claims.claim_jobs(worker, limit, **options)]
