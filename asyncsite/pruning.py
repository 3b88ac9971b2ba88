"""Delete reports that are past their retention."""

from itertools import islice

from django.conf import settings
from django.utils import timezone

from asyncsite.jobs import has_active_job
from asyncsite.models import Report


def prune_reports(retention=None, limit=None):
    """Delete old reports, oldest first, and return their number.

    ``retention``
        A timedelta. Reports that are older are deleted, unless their job is active. Default: REPORT_RETENTION.
    ``limit``
        The number of reports to delete. Default: all.

    Each report is deleted in its own transaction, which holds SQLite's lock for at most 1,000 calls.
    """
    ids = find_old_reports(retention, limit)
    for id in ids:
        Report.objects.filter(pk=id).delete()
    return len(ids)


def find_old_reports(retention=None, limit=None):
    """Return the keys of the reports that ``prune_reports`` would delete, oldest first."""
    before = timezone.now() - (settings.REPORT_RETENTION if retention is None else retention)
    old = Report.objects.filter(created_at__lt=before).order_by("created_at").only("job_id")
    inactive = (report for report in old if not has_active_job(report))
    return [report.pk for report in islice(inactive, limit)]
