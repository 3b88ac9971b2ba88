"""The models: notifications and jobs in this module, all others beside it.

``docs/explanation/delivery.md`` describes what they mean.

No foreign key has a constraint in the database: a host that locks or deletes a user must neither block, nor be blocked
by, the streams of that user. Rows of a deleted user are purged after the commit.

streams  streams, marks that they were seen, rings, the epoch; changes of a whole inbox; what was announced to users
jobs     what jobs wait for; attempts that did not succeed
workers  workers, server processes, paused queues; when each duty was last run
users    keys of users
"""

from __future__ import annotations

from typing import Any

from django.db import models
from django.db.models import Q
from django.db.models.functions import Coalesce
from django.db.models.lookups import IsNull
from django.utils.translation import gettext_lazy as _

from notifications import compat as compat  # first: it names a package that replaces modules of this one
from notifications import states
from notifications.ids import uuid7
from notifications.models.jobs import Attempt as Attempt
from notifications.models.jobs import Wait as Wait
from notifications.models.streams import AnnouncedState as AnnouncedState
from notifications.models.streams import Epoch as Epoch
from notifications.models.streams import NotificationLevel
from notifications.models.streams import PendingMark as PendingMark
from notifications.models.streams import Ring as Ring
from notifications.models.streams import SeenMark as SeenMark
from notifications.models.streams import Stream as Stream
from notifications.models.users import user_key
from notifications.models.workers import DutyRun as DutyRun
from notifications.models.workers import Queue as Queue
from notifications.models.workers import ServerProcess as ServerProcess
from notifications.models.workers import Worker as Worker
from notifications.times import MomentField


class Notification(models.Model):
    """A durable message to one user. With ``seq`` NULL it has changed and is not numbered yet."""

    Level = NotificationLevel

    id = models.UUIDField(_("ID"), primary_key=True, default=uuid7, editable=False)
    user = user_key()
    seq = models.BigIntegerField(_("position (seq)"), null=True, editable=False)
    raised = models.BigIntegerField(_("first position (raised)"), null=True, editable=False)
    counted = models.BooleanField(default=False, editable=False)
    level = models.CharField(_("level"), max_length=10, choices=Level, default=Level.INFO)
    category = models.CharField(_("category"), max_length=100, blank=True, default="")
    title = models.CharField(_("title"), max_length=200)
    body = models.TextField(_("body"), max_length=2000, blank=True, default="")
    url = models.CharField(_("link"), max_length=1000, blank=True, default="")
    job = models.UUIDField(_("job"), null=True, blank=True)
    data = models.TextField(_("data"), default="{}", editable=False)
    key = models.CharField(_("key"), max_length=200, blank=True, default="")
    #: The broadcast that it was sent with, if any.
    broadcast = models.UUIDField(_("broadcast"), null=True, blank=True, editable=False)
    created_at = MomentField(_("created"), editable=False)
    read_at = MomentField(_("read"), null=True, blank=True, editable=False)
    archived_at = MomentField(_("archived"), null=True, blank=True, editable=False)
    #: The question of a job that it asks, until this has ended. Marks do not change it until then.
    open_question = models.UUIDField(null=True, blank=True, editable=False)
    #: It is archived until then, and raised again. NULL: it is not snoozed.
    snoozed_until = MomentField(null=True, blank=True, editable=False)
    #: When it was last snoozed, and when it was last raised again at the end of a snooze.
    snoozed_at = MomentField(null=True, blank=True, editable=False)
    returned_at = MomentField(null=True, blank=True, editable=False)
    #: The rows that the inbox shows as one: see ``inbox/lists.py``. NULL: it is in no group.
    group_key = models.CharField(max_length=102, null=True, blank=True, editable=False)  # noqa: DJ001
    #: Not stored: what the extension has read from ``deliver=`` of ``notify()``.
    steps: Any = None

    class Meta:
        verbose_name = _("notification")
        verbose_name_plural = _("notifications")
        default_permissions = ("add", "view")
        indexes = [
            models.Index(fields=["user", "seq"], name="notifications_n_seq"),
            models.Index(
                fields=["user", "id"], condition=Q(seq__isnull=True), name="notifications_n_unnumbered"
            ),
            # With COALESCE this is the only index that the queries of streams/numbering.py can use. With plain columns
            # PostgreSQL uses another index while it has no statistics, and reads a whole inbox for each key.
            models.Index(
                Coalesce("user", "user"),
                "key",
                condition=Q(IsNull(Coalesce("read_at", "archived_at"), True)) & ~Q(key=""),
                name="notifications_n_open_key",
            ),
            models.Index(
                fields=["archived_at"],
                condition=Q(archived_at__isnull=False),
                name="notifications_n_archived",
            ),
            models.Index(
                fields=["broadcast", "id", "read_at"],
                condition=Q(broadcast__isnull=False),
                name="notifications_n_broadcast",
            ),
            models.Index(
                fields=["user", "raised"],
                condition=Q(open_question__isnull=False),
                name="notifications_n_question",
            ),
            *(
                models.Index(
                    fields=fields,
                    condition=Q(snoozed_until__isnull=False),
                    name=f"notifications_n_{name}",
                )
                for name, fields in (("snoozed", ["user", "raised"]), ("due", ["snoozed_until"]))
            ),
            # Each notification is in one of these partitions: see streams/listing.py.
            *(
                models.Index(
                    fields=["user", "raised"],
                    condition=Q(read_at__isnull=is_unread, archived_at__isnull=in_inbox),
                    name=f"notifications_n_{'inbox' if in_inbox else 'arch'}_{'unread' if is_unread else 'read'}",
                )
                for in_inbox in (True, False)
                for is_unread in (True, False)
            ),
            *(
                models.Index(
                    fields=["user", "group_key", "raised"],
                    condition=Q(read_at__isnull=is_unread, archived_at__isnull=True, group_key__isnull=False),
                    name=f"notifications_n_group_{'unread' if is_unread else 'read'}",
                )
                for is_unread in (True, False)
            ),
        ]

    def __str__(self) -> str:
        return self.title

    @property
    def is_muted(self) -> bool:
        """Whether an extension has marked it as read before it was created: its user had muted its category."""
        return self.read_at is not None and self.read_at == self.created_at

    @property
    def raised_at(self) -> Any:
        """When it was raised: at its creation, or at the end of its last snooze. None in a damaged row."""
        return self.returned_at or self.created_at


def _job_index(name: str, *fields: str, **condition: Any) -> models.Index:
    return models.Index(
        fields=fields, condition=Q(**condition) if condition else None, name=f"notifications_job_{name}"
    )


class Job(models.Model):
    """One execution of a task. Only ``jobs/transitions/`` and ``contrib/celery/transitions/`` change its state.

    ``seq`` is 0 while the job is active, and NULL when it is finished and not numbered yet.
    """

    State, Executor = states.JobState, states.JobExecutor

    id = models.UUIDField(_("ID"), primary_key=True, default=uuid7, editable=False)
    user = user_key(null=True, blank=True)
    seq = models.BigIntegerField(null=True, default=0, editable=False)
    version = models.BigIntegerField(default=1, editable=False)
    task_path = models.CharField(_("task"), max_length=500)
    args = models.TextField(_("arguments"), default="[]")
    kwargs = models.TextField(_("keyword arguments"), default="{}")
    backend = models.CharField(_("backend"), max_length=100)
    queue_name = models.CharField(_("queue"), max_length=100)
    executor = models.CharField(
        max_length=20, choices=Executor, default="sync", db_default="sync", editable=False
    )
    # Columns of engines and of observed tasks stand here: in tables of their own they would cost a statement more for
    # each job that is enqueued for an engine or claimed by it, and for each group of starts of observed tasks.
    #: While the job is dispatched to its engine (DISPATCHED, ENGINE_QUARANTINED): when its id is dispatched again.
    next_dispatch_at = MomentField(null=True, blank=True, editable=False)
    #: Since when its engine has its id, which may be lost. NULL: it could not be sent yet.
    dispatched_at = MomentField(_("dispatched since"), null=True, blank=True, editable=False)
    #: How often its id was dispatched to an engine.
    dispatch_count = models.PositiveIntegerField(_("dispatched"), default=0, db_default=0, editable=False)
    priority = models.SmallIntegerField(_("priority"), default=0)
    run_after = MomentField(_("run after"), null=True, blank=True)
    state = models.CharField(_("state"), max_length=10, choices=State, default=State.QUEUED)
    attempt = models.PositiveIntegerField(_("attempt"), default=0)
    max_attempts = models.PositiveIntegerField(_("attempts at most"), default=1)
    worker = models.UUIDField(_("worker"), null=True, blank=True)
    fence = models.BigIntegerField(default=0)
    #: When a running job is taken away from its worker.
    deadline = MomentField(_("deadline"), null=True, blank=True)
    #: When the job fails if no worker can import its task by then. NULL: no worker had to queue it again for that.
    fail_if_unknown_after = MomentField(null=True, blank=True, editable=False)
    #: When the queued job of an observed task ends that was not started by then. NULL: never.
    expires_at = MomentField(null=True, blank=True, editable=False)
    #: The process of its worker that has started an observed task. Of a queued job: it goes on with other tasks.
    process_id = models.PositiveIntegerField(null=True, blank=True, editable=False)
    #: Whether the broker delivers the message of an observed task again if that process is lost.
    acks_late = models.BooleanField(default=False, db_default=False, editable=False)
    #: The group of the notification of its end, if its task was published in a group of Celery's.
    inbox_group = models.CharField(max_length=100, blank=True, default="", db_default="", editable=False)
    progress_current = models.BigIntegerField(null=True, blank=True)
    progress_total = models.BigIntegerField(null=True, blank=True)
    progress_message = models.CharField(max_length=200, blank=True, default="")
    #: JSON: what a waiting job waits for, as its item has it. NULL: nothing, or its owner does not see it.
    waiting = models.TextField(null=True, blank=True, editable=False)  # noqa: DJ001
    # JSON; NULL is not the JSON null.
    result = models.TextField(null=True, blank=True)  # noqa: DJ001
    error = models.TextField(null=True, blank=True)  # noqa: DJ001
    title = models.CharField(_("title"), max_length=200)
    url = models.CharField(_("link"), max_length=1000, blank=True, default="")
    language = models.CharField(max_length=20, blank=True, default="")
    trace = models.CharField(max_length=800, blank=True, default="")  # see tracing/trace_context.py
    idempotency_key = models.CharField(max_length=200, blank=True, default="")
    idempotency_hash = models.CharField(max_length=64, blank=True, default="")
    idempotency_expires_at = MomentField(null=True, blank=True)
    concurrency_key = models.CharField(max_length=200, blank=True, default="")
    batch = models.UUIDField(null=True, blank=True)
    #: The name of the schedule that has enqueued the job, which notifies of its end: see ``contrib/schedules/runs.py``.
    schedule = models.CharField(
        _("schedule"), max_length=100, blank=True, default="", db_default="", editable=False
    )
    #: The notification or job about whose event a handler, webhook or callback is called. NULL: another job.
    event_source = models.UUIDField(null=True, blank=True, editable=False)
    cancel_requested_at = MomentField(null=True, blank=True)
    #: Whether a user other than the owner requested the cancellation, of which the owner is notified then.
    cancelled_by_other = models.BooleanField(default=False)
    created_at = MomentField(_("created"), editable=False)
    queued_at = MomentField(_("queued"), editable=False)
    started_at = MomentField(_("started"), null=True, blank=True, editable=False)
    finished_at = MomentField(_("finished"), null=True, blank=True, editable=False)

    class Meta:
        verbose_name = _("job")
        verbose_name_plural = _("jobs")
        default_permissions = ("view", "change")
        permissions = [
            ("view_job_arguments", _("Can view the arguments of jobs")),
            ("view_traceback", _("Can view the tracebacks of jobs")),
        ]
        indexes = [
            _job_index("seq", "user", "seq"),
            _job_index("user", "user", "created_at", "id"),
            _job_index("unnumbered", "user", "id", seq__isnull=True),
            _job_index("active", "user", "queued_at", seq=0, user__isnull=False),
            _job_index("ready", "executor", "-priority", "id", state="queued", run_after__isnull=True),
            _job_index("delayed", "run_after", "id", state="queued", run_after__isnull=False),
            # For claims from one queue and executor, and of one concurrency key in them. The conditions differ so that
            # each query can name the one index that it uses: see jobs/claiming/.
            _job_index(
                *("queued", "queue_name", "executor", "run_after", "-priority", "id"),
                state__startswith="queued",
            ),
            _job_index(
                *("keyed", "queue_name", "executor", "concurrency_key", "run_after", "-priority", "id"),
                state__endswith="queued",
            ),
            _job_index("running", "worker", "id", state="running"),
            _job_index("waiting", "id", state="waiting"),
            _job_index("dispatched", "next_dispatch_at", "id", state="queued", executor="dispatched"),
            _job_index("expiry", "expires_at", "id", state="queued", executor="observed"),
            _job_index("finished", "finished_at", finished_at__isnull=False),
            _job_index("failed", "finished_at", state="failed"),
            _job_index("batch", "batch", "state", batch__isnull=False),
            _job_index("event", "event_source", "id", event_source__isnull=False),
            *(_job_index(f"{s}_at", "created_at", "id", "state", state=s) for s in states.LISTED_BY_INDEX),
            _job_index("list", "created_at", "id"),  # ids of observed tasks do not ascend with time
        ]
        # A key can be used again when it has expired: it is cleared from the older row first.
        constraints = [
            models.UniqueConstraint(
                fields=["user", "idempotency_key"],
                condition=Q(user__isnull=False) & ~Q(idempotency_key=""),
                name="notifications_job_key",
            ),
            models.UniqueConstraint(
                fields=["idempotency_key"],
                condition=Q(user__isnull=True) & ~Q(idempotency_key=""),
                name="notifications_job_key_nobody",
            ),
        ]

    def __str__(self) -> str:
        return self.title

    @property
    def done(self) -> bool:
        """Whether the job has succeeded, failed or been cancelled."""
        return self.state in states.DONE

    @property
    def can_retry(self) -> bool:
        """Whether the job can be retried by hand. That of an observed task cannot: only Celery can run it."""
        return self.state in states.RETRYABLE and self.executor != self.Executor.OBSERVED
