"""The models of workers, server processes, queues that are paused, and when each duty was last run."""

from __future__ import annotations

from django.db import models
from django.utils.translation import gettext_lazy as _

from notifications.ids import uuid7
from notifications.times import MomentField


class Queue(models.Model):
    """A queue that is or was paused. A queue without a row is not paused."""

    name = models.CharField(_("queue"), max_length=100, primary_key=True)
    paused_at = MomentField(_("paused"), null=True, blank=True)

    class Meta:
        verbose_name = _("queue")
        verbose_name_plural = _("queues")
        default_permissions = ("view", "change")

    def __str__(self) -> str:
        return self.name


class QueueClock(models.Model):
    """The highest turn that has begun in a queue, executor and priority. See ``jobs/turns.py``."""

    backend = models.CharField(max_length=100)
    queue_name = models.CharField(max_length=100)
    executor = models.CharField(max_length=20)
    priority = models.SmallIntegerField()
    turn = models.BigIntegerField()

    class Meta:
        default_permissions = ()
        constraints = [
            models.UniqueConstraint(
                fields=["backend", "queue_name", "executor", "priority"], name="notifications_queueclock_key"
            )
        ]

    def __str__(self) -> str:
        return f"{self.backend} {self.queue_name} {self.executor} {self.priority}: {self.turn}"


class LimitedQueue(models.Model):
    """A queue in which jobs wait for the limit of a key. See ``jobs/transitions/limiting.py``.

    ``opens_at``
        When the first of them may begin, as far as that is known.
    """

    backend = models.CharField(max_length=100)
    queue_name = models.CharField(max_length=100)
    key = models.CharField(max_length=200)
    opens_at = MomentField(db_index=True)

    class Meta:
        default_permissions = ()
        constraints = [
            models.UniqueConstraint(
                fields=["key", "backend", "queue_name"], name="notifications_limitedqueue_key"
            )
        ]

    def __str__(self) -> str:
        return f"{self.backend} {self.queue_name} {self.key}"


class Worker(models.Model):
    """A process that runs jobs, and the end of its lease."""

    class Request(models.TextChoices):
        """What staff want a worker to do, which it reads at each renewal of its lease."""

        QUIET = "quiet", _("Quiet")
        STOP = "stop", _("Stop")

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    host = models.CharField(_("host"), max_length=255)
    process = models.CharField(_("process"), max_length=255)
    started_at = MomentField(_("started"))
    lease_until = MomentField(_("lease until"))
    queues = models.CharField(_("queues"), max_length=1000, blank=True, default="")
    concurrency = models.PositiveIntegerField(_("concurrency"))
    load = models.PositiveIntegerField(_("load"), default=0)
    outbound = models.TextField(_("outbound calls"), blank=True, default="")  # JSON, as of the last renewal
    #: Resident memory of its process in bytes, as of the last renewal; NULL where it is not known.
    memory = models.BigIntegerField(_("memory"), null=True, editable=False)
    #: Rounds of schedules of its process that have not returned for long, as of the last renewal.
    stuck_calls = models.PositiveSmallIntegerField(default=0, db_default=0, editable=False)
    request = models.CharField(max_length=10, choices=Request, blank=True, default="", db_default="")

    class Meta:
        verbose_name = _("worker")
        verbose_name_plural = _("workers")
        default_permissions = ("view", "change")

    def __str__(self) -> str:
        return f"{self.host} {self.process}"


class ServerProcess(models.Model):
    """An ASGI server process, which renews its row while it serves. See ``realtime/connections.py``."""

    #: Seconds after a renewal until the row counts as that of a process that has ended.
    LEASE_SECONDS = 30.0

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    host = models.CharField(_("host"), max_length=255)
    pid = models.PositiveBigIntegerField(_("process id"))
    started_at = MomentField(_("started"))
    lease_until = MomentField(_("lease until"))
    sockets = models.PositiveIntegerField(_("sockets"), default=0)
    users = models.PositiveIntegerField(_("users"), default=0)

    class Meta:
        verbose_name = _("server process")
        verbose_name_plural = _("server processes")
        default_permissions = ()

    def __str__(self) -> str:
        return f"{self.host} {self.pid}"


class DutyRun(models.Model):
    """When a process last ran a duty that one does for all. It elects the next one: see ``upkeep.py``."""

    name = models.CharField(primary_key=True, max_length=100)
    last_run_at = MomentField()

    class Meta:
        default_permissions = ()

    def __str__(self) -> str:
        return f"{self.name}: {self.last_run_at}"


class OwedCall(models.Model):
    """A call of a hook that a transaction has left out, for one job, notification, wait or worker.

    A duty makes it: ``jobs/calling_owed.py``.
    """

    #: The label of the extension.
    extension = models.CharField(max_length=100)
    hook = models.CharField(max_length=40)
    subject = models.UUIDField()
    #: JSON: with what the hook was to be called.
    facts = models.TextField(default="{}")
    tries = models.PositiveIntegerField(default=0)
    due_at = MomentField()

    class Meta:
        default_permissions = ()
        indexes = [
            models.Index(fields=["extension", "due_at"], name="notifications_owed_due"),
            models.Index(fields=["subject"], name="notifications_owed_subject"),
        ]

    def __str__(self) -> str:
        return f"{self.extension}.{self.hook}: {self.subject}"
