"""Outcomes of batches, from the states of their jobs."""

from __future__ import annotations

import json

from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from notifications.exceptions import JobFailed
from notifications.jobs.declaring.policies import Policy
from notifications.jobs.outcomes import Outcome, _language, announcement, failure
from notifications.models import Job
from notifications.states import DONE


def of_batch(job: Job, policy: Policy, *, succeeded: int, failed: int, cancelled: int) -> Outcome:
    """Return the outcome of a batch that has no active job any more, from the number of jobs in each state."""
    total = succeeded + failed + cancelled
    with _language(job):
        if succeeded == total:
            body = ngettext("%(count)d job succeeded.", "All %(count)d jobs succeeded.", total) % {
                "count": total
            }
            value = _counts(succeeded)
            fields = announcement(job, policy, Job.State.SUCCEEDED, value, None, body=body)
            return Outcome(job=job, state=Job.State.SUCCEEDED, result=json.dumps(value), **fields)
        numbers = {"failed": failed, "cancelled": cancelled, "total": total}
        if not cancelled:
            detail = _("%(failed)d of %(total)d failed.")
        elif not failed:
            detail = ngettext(
                "%(cancelled)d of %(total)d was cancelled.",
                "%(cancelled)d of %(total)d were cancelled.",
                cancelled,
            )
        else:
            detail = ngettext(
                "%(failed)d of %(total)d failed, %(cancelled)d was cancelled.",
                "%(failed)d of %(total)d failed, %(cancelled)d were cancelled.",
                cancelled,
            )
        detail %= numbers
    return failure(job, policy, "batch-failed", JobFailed({"detail": detail}), detail)


def _counts(succeeded: int) -> dict[str, int]:
    """Return the result of a batch whose jobs have all succeeded: their number in each state."""
    return {str(state): succeeded if state == Job.State.SUCCEEDED else 0 for state in DONE}
