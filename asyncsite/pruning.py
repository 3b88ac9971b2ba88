"""Deleting reports that are past their retention."""

from django.conf import settings
from django.db.models import Exists, OuterRef
from django.utils import timezone

from asyncsite.models import Report
from notifications.models import Job

ACTIVE = [Job.State.QUEUED, Job.State.RUNNING]


def prune_reports(retention=None, limit=None):
    """Delete reports older than ``retention`` (a timedelta, by default REPORT_RETENTION), oldest first.

    Reports with an active job stay. Each report is deleted in a transaction of its own, which holds SQLite's lock for
    at most 1,000 calls. Returns the number of deleted reports, at most ``limit``.
    """
    before = timezone.now() - (settings.REPORT_RETENTION if retention is None else retention)
    active = Job.objects.filter(pk=OuterRef("job_id"), state__in=ACTIVE)
    old = Report.objects.filter(~Exists(active), created_at__lt=before).order_by("created_at")
    ids = list(old.values_list("pk", flat=True)[:limit])
    for id in ids:
        Report.objects.filter(pk=id).delete()
    return len(ids)
