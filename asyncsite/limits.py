"""What one user may ask of the site: so many requests a minute, and so many reports in all."""

import math
from datetime import timedelta

from django.utils import timezone

from asyncsite.models import RateLimitEntry, Report
from notifications.conf import settings
from notifications.exceptions import JobRateExceeded

MAX_REPORTS_PER_USER = 100
RATE_PERIOD = timedelta(minutes=1)


class TooManyRequests(JobRateExceeded):
    """The user has sent as many requests within a minute as JOBS_PER_MINUTE allows."""

    def __init__(self, limit, retry_after):
        super().__init__(limit, retry_after)
        # In the site's words: a check of one URL is not a job.
        self.args = (f"{limit:,} URLs and reports were sent within a minute. Try again in {retry_after} s.",)


class TooManyReports(Exception):
    """The user has as many reports as are stored for one user."""

    def __init__(self):
        super().__init__(
            f"You have {MAX_REPORTS_PER_USER} reports, which is the limit. "
            "Open one that you no longer need, delete it, and try again."
        )


def count_request(user):
    """Count a request that calls URLs, whether it becomes a job or not.

    Raises TooManyRequests if the user has made JOBS_PER_MINUTE of them within a minute. Two at the same time may
    both be the last: neither reads the other's row before it is committed.
    """
    now = timezone.now()
    entries = RateLimitEntry.objects.filter(owner=user)
    recent = entries.filter(created_at__gt=now - RATE_PERIOD)
    limit = settings.JOBS_PER_MINUTE
    # The entry that has to leave the period before another one fits.
    blocking = recent.order_by("-created_at").values_list("created_at", flat=True)[limit - 1 : limit].first()
    if blocking:
        raise TooManyRequests(limit, max(1, math.ceil((blocking + RATE_PERIOD - now).total_seconds())))
    entries.filter(created_at__lte=now - RATE_PERIOD).delete()
    RateLimitEntry.objects.create(owner=user, created_at=now)


def refuse_too_many_reports(user):
    """Raise TooManyReports if no further report is stored for the user."""
    if Report.objects.filter(owner=user).count() >= MAX_REPORTS_PER_USER:
        raise TooManyReports
