"""Schedules and their ticks."""

from __future__ import annotations

from django.db import models
from django.db.models import Q
from django.utils.translation import gettext_lazy as _

from notifications.contrib.schedules import timing  # noqa: F401 (it says at the start that its package is missing)
from notifications.extension import require
from notifications.models import user_key
from notifications.times import MomentField

require("notifications.contrib.schedules")


class Schedule(models.Model):
    """A periodic job. It is or was declared by the project, or its row is the declaration: it is *stored*."""

    class Problem(models.TextChoices):
        FAILED = "failed", _("Failed")
        #: It has failed so often that it has paused itself.
        GIVEN_UP = "given up", _("Given up")
        MISSED = "missed", _("Missed")
        SKIPPED = "skipped", _("Skipped")

    class PausedBy(models.TextChoices):
        PERSON = "", _("A person")
        FAILURES = "failures", _("Failed runs in a row")
        OWNER = "owner", _("The owner is not active")

    name = models.CharField(_("schedule"), max_length=100, primary_key=True)
    #: As declared when the row was last written: the text of a ``Timing``.
    timing = models.CharField(_("timing"), max_length=300)
    task_path = models.CharField(_("task"), max_length=500)
    created_at = MomentField(_("created"))
    paused_at = MomentField(_("paused"), null=True, blank=True)
    paused_by = models.CharField(max_length=10, choices=PausedBy, blank=True, default="")
    #: What an entry of ``SCHEDULES`` would have, as JSON. NULL: the project declares it.
    options = models.TextField(null=True, editable=False)  # noqa: DJ001 (an index is of the rows without NULL)
    #: What people call a stored schedule.
    title = models.CharField(_("title"), max_length=200, blank=True, default="")
    #: The owner of a stored schedule.
    user = user_key(null=True, verbose_name=_("owner"))
    #: Whether its times are those of the time zone of its owner, who may choose another one.
    is_in_owner_zone = models.BooleanField(default=False)
    #: Runs of a stored schedule that have failed since one that succeeded.
    failures = models.PositiveIntegerField(default=0)
    #: Until when rounds leave a stored schedule out, because they have failed at it.
    put_off_until = MomentField(null=True, editable=False)
    #: The first tick that is not recorded yet. NULL: to be computed from now on, or the timing is never due again.
    next_tick = MomentField(_("next run"), null=True, blank=True)
    #: When the next tick of a stored schedule was computed. One to come is of a clock that was wrong.
    timed_at = MomentField(null=True, editable=False)
    #: The last tick that is recorded.
    last_tick = MomentField(_("last tick"), null=True, blank=True)
    #: Until when some process that declares it counts as present. The others leave its ticks to that one. Of no meaning
    #: for one that is stored.
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
        permissions = [("run_schedule", "Can run a schedule now")]
        indexes = [
            models.Index(
                fields=["next_tick"],
                condition=Q(options__isnull=False, paused_at__isnull=True),
                name="notifications_schedule_due",
            ),
            models.Index(
                fields=["timed_at"], condition=Q(options__isnull=False), name="notifications_schedule_timed"
            ),
            models.Index(
                fields=["name"], condition=Q(is_in_owner_zone=True), name="notifications_schedule_zone"
            ),
            models.Index(fields=["user", "name"], name="notifications_schedule_user"),
            models.Index(
                fields=["name"], condition=Q(options__isnull=True), name="notifications_schedule_decl"
            ),
            models.Index(fields=["name"], condition=~Q(problem=""), name="notifications_schedule_problem"),
        ]

    def __str__(self) -> str:
        return self.title or self.name

    @property
    def is_stored(self) -> bool:
        """Whether its row is its declaration."""
        return self.options is not None


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
