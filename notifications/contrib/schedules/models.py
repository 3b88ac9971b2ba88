"""Schedules and their ticks."""

from __future__ import annotations

from django.db import models
from django.db.models import Q
from django.utils.translation import gettext_lazy as _

from notifications.contrib.schedules import timing  # noqa: F401 (it says at the start that its package is missing)
from notifications.extension import require
from notifications.times import MomentField

require("notifications.contrib.schedules")


class Schedule(models.Model):
    """A periodic job that is or was declared in ``NOTIFICATIONS["SCHEDULES"]``."""

    class Problem(models.TextChoices):
        FAILED = "failed", _("Failed")
        MISSED = "missed", _("Missed")
        SKIPPED = "skipped", _("Skipped")

    name = models.CharField(_("schedule"), max_length=100, primary_key=True)
    #: As declared when the row was last written: the text of a ``Timing``.
    timing = models.CharField(_("timing"), max_length=300)
    task_path = models.CharField(_("task"), max_length=500)
    created_at = MomentField(_("created"))
    paused_at = MomentField(_("paused"), null=True, blank=True)
    #: The first tick that is not recorded yet. NULL: to be computed from now on, or the timing is never due again.
    next_tick = MomentField(_("next run"), null=True, blank=True)
    #: The last tick that is recorded.
    last_tick = MomentField(_("last tick"), null=True, blank=True)
    #: Until when some process that declares it counts as present. The others leave its ticks to that one.
    declared_until = MomentField(editable=False)
    #: What has gone wrong since the last run that succeeded, "" if nothing has.
    problem = models.CharField(_("problem"), max_length=10, choices=Problem, blank=True, default="")
    problem_since = MomentField(null=True, blank=True)
    #: The job of the last failure.
    problem_job = models.UUIDField(null=True, blank=True)
    #: What the text about the problem is made from, a JSON object: see ``problems.py``.
    problem_facts = models.TextField(default="{}", db_default="{}", editable=False)

    class Meta:
        verbose_name = _("schedule")
        verbose_name_plural = _("schedules")
        default_permissions = ("view", "change")
        permissions = [("run_schedule", "Can run a schedule now")]

    def __str__(self) -> str:
        return self.name


class Tick(models.Model):
    """A moment at which a schedule was due, and what became of it. Or several in a row that were missed.

    The key of its job cannot stand for it: the task may have a key of its own, and keys end after a day. Nor can
    ``last_tick``: after the clock of the database was ahead, ticks are due that are before it.
    """

    class Outcome(models.TextChoices):
        ENQUEUED = "enqueued", _("Enqueued")
        MISSED = "missed", _("Missed")
        SKIPPED = "skipped", _("Skipped")
        FAILED = "failed", _("Not enqueued")

    schedule = models.ForeignKey(
        Schedule, models.DO_NOTHING, db_constraint=False, db_index=False, related_name="ticks"
    )
    due_at = MomentField(_("due"))
    #: With ``count`` above 1: when the first of these ticks was due. ``due_at`` is the last one.
    first_due_at = MomentField(_("first due"), null=True, blank=True)
    count = models.PositiveBigIntegerField(_("count"), default=1)
    outcome = models.CharField(_("outcome"), max_length=10, choices=Outcome)
    detail = models.CharField(_("detail"), max_length=500, blank=True, default="")
    #: Whether it was run by hand.
    is_manual = models.BooleanField(_("by hand"), default=False)
    job = models.UUIDField(_("job"), null=True, blank=True)
    #: How the job has ended, "" while it is active.
    job_state = models.CharField(_("state"), max_length=10, blank=True, default="")
    recorded_at = MomentField(_("recorded"))

    class Meta:
        verbose_name = _("tick")
        verbose_name_plural = _("ticks")
        default_permissions = ("view",)
        constraints = [
            models.UniqueConstraint(fields=["schedule", "due_at"], name="notifications_tick_due"),
        ]
        indexes = [
            models.Index(
                fields=["schedule", "id"],
                condition=Q(outcome="enqueued", job_state=""),
                name="notifications_tick_open",
            ),
            models.Index(fields=["recorded_at"], name="notifications_tick_recorded"),
        ]

    def __str__(self) -> str:
        return f"{self.schedule_id} {self.due_at}"
