"""Limits for one user: requests per minute, and stored reports."""

import math
from datetime import timedelta

from django.utils import timezone
from django.utils.translation import gettext as _

from asyncsite.models import RateLimitEntry, Report
from asyncsite.numbers import format_number
from notifications.conf import settings
from notifications.exceptions import JobRateExceeded

MAX_REPORTS_PER_USER = 100
RATE_PERIOD = timedelta(minutes=1)


class TooManyRequests(JobRateExceeded):
    """The user has sent JOBS_PER_MINUTE requests within a minute."""

    def __init__(self, limit, retry_after):
        super().__init__(limit, retry_after)
        # Not the app's text, which counts jobs: a check of one URL is none.
        text = _("You have sent {limit} URLs and reports within a minute. Try again in {seconds} s.")
        self.args = (text.format(limit=format_number(limit), seconds=retry_after),)


class TooManyReports(Exception):
    """The user has MAX_REPORTS_PER_USER reports."""

    def __init__(self):
        text = _(
            "You have {limit} reports, which is the limit. "
            "Open one that you no longer need, delete it, and try again."
        )
        super().__init__(text.format(limit=MAX_REPORTS_PER_USER))


def count_request(user):
    """Count a request that calls URLs, whether it becomes a job or not.

    Raises TooManyRequests if the user has sent JOBS_PER_MINUTE of them within a minute. Two concurrent requests may
    both pass as the last one: neither reads the other's row before its commit.
    """
    now = timezone.now()
    entries = RateLimitEntry.objects.filter(owner=user)
    recent = entries.filter(created_at__gt=now - RATE_PERIOD)
    limit = settings.JOBS_PER_MINUTE
    # The entry that must leave the period before another request is allowed.
    blocking = recent.order_by("-created_at").values_list("created_at", flat=True)[limit - 1 : limit].first()
    if blocking:
        raise TooManyRequests(limit, max(1, math.ceil((blocking + RATE_PERIOD - now).total_seconds())))
    entries.filter(created_at__lte=now - RATE_PERIOD).delete()
    RateLimitEntry.objects.create(owner=user, created_at=now)


def check_report_limit(user):
    """Raise TooManyReports if the user has as many reports as allowed."""
    if Report.objects.filter(owner=user).count() >= MAX_REPORTS_PER_USER:
        raise TooManyReports
