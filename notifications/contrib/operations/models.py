"""The models of statistics of jobs, which outlast the jobs, of incidents, of alerts, and of the overview."""

from __future__ import annotations

from typing import Any

from django.db import models
from django.db.models import Q
from django.utils.translation import gettext_lazy as _

from notifications import management
from notifications.db import database
from notifications.extension import require
from notifications.models import user_key
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
    return [(id, check.label) for id, check in management.Examination.alert_checks().items()]


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


class Incident(models.Model):
    """A time in which jobs of one task failed with one error at one place. It is open until ``over_at``.

    It is recorded from failed jobs (see ``incidents/recording.py``), and stays when they are retried.
    """

    #: The digest of task, exception and location.
    key = models.CharField(max_length=32)
    task_path = models.CharField(_("task"), max_length=500)
    #: "" where the task raised nothing, as when its worker was lost.
    exception_class_path = models.CharField(_("exception"), max_length=500, blank=True, default="")
    location = models.CharField(_("location"), max_length=300, blank=True, default="")
    #: The host that the message of the exception names.
    host = models.CharField(max_length=253, blank=True, default="")
    begun_at = MomentField(_("begun"))
    #: When the last job failed.
    failed_at = MomentField(_("last failure"))
    #: The last failure, when no job has failed for some minutes and others succeeded.
    over_at = MomentField(_("over"), null=True, blank=True)
    #: So many jobs failed within minutes that it is an alert until it is over.
    is_alert = models.BooleanField(default=False)
    #: How many users are affected, and the id of the last ``AffectedUser``.
    users = models.BigIntegerField(default=0)
    last_user = models.BigIntegerField(default=0)
    #: Those to them that were not withdrawn, as JSON: of each its id, and its users after and up to ``AffectedUser``s.
    broadcasts = models.TextField(default="[]", db_default="[]", editable=False)
    #: The last one, when it was sent, and by whom (a user name), unless it was withdrawn; how many users were notified
    #: by all, and up to which ``AffectedUser``.
    broadcast = models.UUIDField(null=True, editable=False)
    notified_at = MomentField(null=True)
    notified_by = models.CharField(max_length=150, blank=True, default="")
    notified_users = models.BigIntegerField(default=0)
    last_notified = models.BigIntegerField(default=0)
    #: The broadcast that says that it is over.
    end_broadcast = models.UUIDField(null=True, editable=False)

    class Meta:
        default_permissions = ()
        constraints = [
            models.UniqueConstraint(
                fields=["key"], condition=Q(over_at__isnull=True), name="notifications_incident_open"
            )
        ]
        indexes = [
            models.Index(fields=["key", "id"], name="notifications_incident_key"),
            models.Index(fields=["failed_at"], name="notifications_incident_failed"),
        ]

    def __str__(self) -> str:
        return f"{self.task_path} {self.exception_class_path}"


class AffectedUser(models.Model):
    """A user of whom a job failed in an incident, in the order in which they were recorded."""

    incident = models.ForeignKey(
        Incident, models.DO_NOTHING, db_constraint=False, db_index=False, related_name="affected"
    )
    user = user_key(verbose_name=None)

    class Meta:
        default_permissions = ()
        constraints = [
            models.UniqueConstraint(fields=["incident", "user"], name="notifications_affected_user")
        ]
        indexes = [models.Index(fields=["user"], name="notifications_affected_by_user")]

    def __str__(self) -> str:
        return f"{self.incident_id} {self.user_id}"


class AlertState(models.Model):
    """What alerts are evaluated from besides the other tables, in one row."""

    id = models.SmallIntegerField(primary_key=True, default=1)
    #: When a live worker was last seen; NULL while one is.
    no_worker_since = MomentField(null=True)
    #: When the lease of a worker was last found to be over, and the host and process of that worker.
    lease_lost_at = MomentField(null=True)
    lost_worker = models.CharField(max_length=511, default="", blank=True)
    #: Jobs that failed before are recorded in incidents, and of those at this time the ones up to an id; NULL for none.
    failures_read_until = MomentField(null=True)
    last_failure_read = models.UUIDField(null=True)
    #: The key of the last open incident that was checked whether it is over; "" if all were.
    last_incident_checked = models.CharField(max_length=32, default="", blank=True)

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
