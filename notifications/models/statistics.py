"""The model of the statistics of jobs, which outlast the jobs themselves. ``statistics/`` writes and reads it."""

from __future__ import annotations

from typing import Any

from django.db import models
from django.db.models import Q
from django.utils.translation import gettext_lazy as _

#: Buckets of each histogram: the first counts times of up to 1 ms, each further one up to twice as long as the one
#: before, the last one all longer times.
BUCKET_COUNT = 28
HISTOGRAMS = ("wait", "run")
#: The columns of both histograms, from the shortest to the longest time.
BUCKET_COLUMNS = {name: tuple(f"{name}_{n}" for n in range(BUCKET_COUNT)) for name in HISTOGRAMS}


class JobStatistics(models.Model):
    """How many jobs of one queue and task ended with one outcome within a period, and their times as histograms.

    While its minute lasts, each writer adds to rows of its own, with a ``shard`` above 0. Later these rows are merged
    into one for the minute, one for the hour, one for the day and one for all time, with ``shard`` 0.
    """

    class Period(models.IntegerChoices):
        MINUTE = 1, _("Minute")
        HOUR = 2, _("Hour")
        DAY = 3, _("Day (UTC)")
        ALL_TIME = 4, _("All time")

    class Outcome(models.TextChoices):
        """How a job ended; or else an attempt, of which a job may have several."""

        SUCCEEDED = "succeeded", _("Succeeded")
        FAILED = "failed", _("Failed")
        CANCELLED = "cancelled", _("Cancelled")
        RETRIED = "retried", _("Attempt retried")
        TIMED_OUT = "timed_out", _("Attempt timed out")
        LOST = "lost", _("Attempt lost")

    period = models.SmallIntegerField(_("period"), choices=Period)
    #: 0, or the minute of the writing (in the upper bits) and a number of the writer: see statistics/recording.py.
    shard = models.BigIntegerField()
    #: Seconds from 1970 to the start of the period; 0 for all time.
    start = models.BigIntegerField(_("start"))
    queue_name = models.CharField(_("queue"), max_length=100)
    task_path = models.CharField(_("task"), max_length=500)
    outcome = models.CharField(_("outcome"), max_length=10, choices=Outcome)
    count = models.BigIntegerField(_("count"))
    #: Jobs that were queued in this period and have ended since, with this outcome.
    enqueued = models.BigIntegerField(_("enqueued"))
    #: The sums of the times in the histograms.
    wait_microseconds = models.BigIntegerField()
    run_microseconds = models.BigIntegerField()

    class Meta:
        verbose_name = _("job statistics")
        verbose_name_plural = _("job statistics")
        default_permissions = ("view",)
        constraints = [
            models.UniqueConstraint(
                fields=["period", "shard", "start", "queue_name", "task_path", "outcome"],
                name="notifications_statistics_key",
            )
        ]
        indexes = [
            models.Index(fields=["shard"], condition=Q(shard__gt=0), name="notifications_statistics_new"),
        ]

    def __str__(self) -> str:
        return f"{self.queue_name} {self.task_path} {self.outcome}"


def _add_bucket_columns() -> None:
    for columns in BUCKET_COLUMNS.values():
        for name in columns:
            # NULL: none. Most buckets of most rows are empty, and a NULL takes no room.
            field: Any = models.BigIntegerField(null=True, editable=False)
            field.contribute_to_class(JobStatistics, name)


_add_bucket_columns()
