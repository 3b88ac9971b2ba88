"""The models of statistics of jobs, which outlast the jobs, of alerts, and of the overview."""

from __future__ import annotations

from typing import Any

from django.db import models
from django.db.models import Q
from django.utils.translation import gettext_lazy as _

from notifications.db import database
from notifications.extension import require
from notifications.management import Examination
from notifications.times import MomentField

require("notifications.contrib.operations")

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


def alert_kinds() -> list[tuple[str, Any]]:
    """Return the kinds of alerts and their labels: those of the checks that have one."""
    return [(id, check.label) for id, check in Examination.alert_checks().items()]


class Alert(models.Model):
    """An episode in which something needs an operator. It is open until ``closed_at``. See ``alerts/``."""

    kind = models.CharField(_("kind"), max_length=20, choices=alert_kinds)
    #: The queue, or schedule for example; "" for an alert about the whole project.
    subject = models.CharField(_("subject"), max_length=200, blank=True, default="")
    #: In ``LANGUAGE_CODE``. People read the text that its check makes of the facts (JSON).
    detail = models.CharField(_("detail"), max_length=500, blank=True, default="")
    facts = models.TextField(default="{}", db_default="{}", editable=False)
    opened_at = MomentField(_("opened"))
    #: When the condition was last found true.
    seen_at = MomentField(_("last seen"))
    closed_at = MomentField(_("closed"), null=True, blank=True)
    #: When a user said that they see to it, and the name of that user.
    acknowledged_at = MomentField(_("acknowledged"), null=True, blank=True)
    acknowledged_by = models.CharField(
        _("acknowledged by"), max_length=150, blank=True, default="", db_default=""
    )

    class Meta:
        verbose_name = _("alert")
        verbose_name_plural = _("alerts")
        default_permissions = ("view", "change")
        permissions = (("receive_alerts", "Can receive alerts"),)
        # Several processes may find the same condition: the first inserts the row.
        constraints = [
            models.UniqueConstraint(
                fields=["kind", "subject"],
                condition=Q(closed_at__isnull=True),
                name="notifications_alert_open",
            )
        ]

    def __str__(self) -> str:
        return f"{self.get_kind_display()}: {self.subject}" if self.subject else self.get_kind_display()


class AlertState(models.Model):
    """What alerts are evaluated from besides the other tables, in one row."""

    id = models.SmallIntegerField(primary_key=True, default=1)
    #: When a live worker was last seen; NULL while one is.
    no_worker_since = MomentField(null=True)
    #: When the lease of a worker was last found to be over, and the host and process of that worker.
    lease_lost_at = MomentField(null=True)
    lost_worker = models.CharField(max_length=511, default="", blank=True)

    class Meta:
        default_permissions = ()

    def __str__(self) -> str:
        return str(self.no_worker_since or "")

    @classmethod
    def read(cls) -> AlertState:
        """Return the row, or an empty one."""
        return cls.objects.using(database()).filter(id=1).first() or cls()


class Overview(Alert):
    """No rows of its own: the overview page of the admin, and the permission to view it."""

    class Meta:
        proxy = True
        verbose_name = _("overview")
        verbose_name_plural = _("overview")
        default_permissions = ("view",)
