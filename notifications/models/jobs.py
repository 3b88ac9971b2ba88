"""Jobs, their attempts that did not succeed, and what they wait for."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from django.apps import apps
from django.core.exceptions import ImproperlyConfigured
from django.db import models
from django.db.models import F, Q
from django.utils.translation import gettext_lazy as _

from notifications import states
from notifications.ids import uuid7
from notifications.models.users import user_key
from notifications.times import MomentField

if not apps.is_installed("notifications"):  # of the first module of models Django would not say what to do
    raise ImproperlyConfigured(
        'notifications is not installed. Add "notifications" to INSTALLED_APPS, and run manage.py migrate.'
    )


def _job_index(name: str, *fields: str, **condition: Any) -> models.Index:
    return models.Index(
        fields=fields, condition=Q(**condition) if condition else None, name=f"notifications_job_{name}"
    )


class Job(models.Model):
    """One execution of a task. Only ``jobs/transitions/`` changes its state.

    ``seq`` is 0 while the job is active, and NULL when it is finished and not numbered yet.
    """

    State, Executor = states.JobState, states.JobExecutor

    #: Not stored here: the tags of a new job.
    tags: tuple[str, ...] = ()

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
    priority = models.SmallIntegerField(_("priority"), default=0)
    #: Who takes turns with others, and the place of the job in that order. See ``jobs/turns.py``.
    share_name = models.CharField(max_length=200, blank=True, default="", db_default="", editable=False)
    turn = models.BigIntegerField(default=0, db_default=0, editable=False)
    #: The time that was asked for, or until which a retry waits. It stays when it has come.
    run_after = MomentField(_("run after"), null=True, blank=True)
    #: When a scheduled job joins the queue. NULL: it is in the queue, and only such a job is claimed.
    due_at = MomentField(null=True, blank=True, editable=False)
    #: What an extension limits the starts of the job by: see ``jobs/claiming/limit_keys.py``. "": by nothing.
    limit_key = models.CharField(max_length=200, blank=True, default="", db_default="", editable=False)
    #: The place of a queued job among those that wait for its limit. NULL: it has not had to wait since it was queued.
    limit_turn = models.BigIntegerField(null=True, blank=True, editable=False)
    state = models.CharField(_("state"), max_length=10, choices=State, default=State.QUEUED)
    attempt = models.PositiveIntegerField(_("attempt"), default=0)
    max_attempts = models.PositiveIntegerField(_("attempts at most"), default=1)
    #: How many attempts the task has requested itself since it was enqueued, or retried by hand: ``RetryRequested``.
    #: ``max_attempts`` grows with each, because it bounds the others.
    retries = models.PositiveIntegerField(default=0, db_default=0, editable=False)
    worker = models.UUIDField(_("worker"), null=True, blank=True)
    fence = models.BigIntegerField(default=0)
    #: When a running job is taken away from its worker.
    deadline = MomentField(_("deadline"), null=True, blank=True)
    #: When the job fails if no worker can import its task by then. NULL: no worker had to queue it again for that.
    fail_if_unknown_after = MomentField(null=True, blank=True, editable=False)
    #: When a queued job fails that has not begun by then. NULL: never, as when it has begun.
    expires_at = MomentField(null=True, blank=True, editable=False)
    #: The group of the notification of its end, in the inbox.
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
    #: When its owner last answered a question of it, or retried it: see ``outcomes.find_own()``.
    owner_acted_at = MomentField(null=True, blank=True, editable=False)
    created_at = MomentField(_("created"), editable=False)
    queued_at = MomentField(_("queued"), editable=False)
    started_at = MomentField(_("started"), null=True, blank=True, editable=False)
    finished_at = MomentField(_("finished"), null=True, blank=True, editable=False)

    class Meta:
        verbose_name = _("job")
        verbose_name_plural = _("jobs")
        default_permissions = ("add", "view", "change")
        permissions = [
            ("view_job_arguments", _("Can view the arguments of jobs")),
            ("view_traceback", _("Can view the tracebacks of jobs")),
        ]
        indexes = [
            _job_index("seq", "user", "seq"),
            _job_index("user", "user", "created_at", "id"),
            _job_index("retried", "user", "queued_at", queued_at__gt=F("created_at")),  # by hand
            _job_index("unnumbered", "user", "id", seq__isnull=True),
            _job_index("active", "user", "queued_at", seq=0, user__isnull=False),
            _job_index("ready", "executor", "-priority", "turn", "id", state="queued", due_at__isnull=True),
            _job_index("scheduled", "due_at", "id", state="queued", due_at__isnull=False),
            # For claims from one backend, queue and executor, and of one concurrency key in them. The conditions differ
            # so that each query can name the one index that it uses: see jobs/claiming/.
            _job_index(
                "queued",
                "backend",
                "queue_name",
                "executor",
                "due_at",
                "-priority",
                "turn",
                "id",
                state__startswith="queued",
            ),
            _job_index(
                "keyed",
                "backend",
                "queue_name",
                "executor",
                "concurrency_key",
                "-priority",
                "turn",
                "id",
                state__endswith="queued",
                due_at__isnull=True,
            ),
            _job_index(
                "share",
                "backend",
                "queue_name",
                "executor",
                "priority",
                "share_name",
                "-turn",
                state__contains="queued",
                due_at__isnull=True,
            ),
            # Of jobs that wait for the limit of a key: in turn, and by share.
            _job_index(
                "limited",
                "backend",
                "queue_name",
                "limit_key",
                "-priority",
                "limit_turn",
                "id",
                "due_at",
                state="queued",
                limit_turn__isnull=False,
            ),
            _job_index(
                "limit_share",
                "backend",
                "queue_name",
                "limit_key",
                "priority",
                "share_name",
                "-limit_turn",
                state="queued",
                limit_turn__isnull=False,
            ),
            _job_index("running", "worker", "id", state="running"),
            _job_index("waiting", "id", state="waiting"),
            _job_index("expiry", "expires_at", "id", state="queued", expires_at__isnull=False),
            _job_index("finished", "finished_at", finished_at__isnull=False),
            # With what the overview groups them by: of 10,000 jobs SQLite would look for each row.
            _job_index("failed", "finished_at", "task_path", "attempt", "user", "id", state="failed"),
            _job_index("key_any", "idempotency_key", idempotency_key__gt=""),
            _job_index("batch", "batch", "state", batch__isnull=False),
            _job_index("event", "event_source", "id", event_source__isnull=False),
            *(_job_index(f"{s}_at", "created_at", "id", "state", state=s) for s in states.LISTED_BY_INDEX),
            _job_index("list", "created_at", "id"),  # ids of several machines do not ascend with time
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
    def expiry(self) -> datetime | None:
        """When the queued job fails if it has not begun, None if it does not."""
        return self.expires_at if self.state == self.State.QUEUED else None

    @property
    def waits_for_limit(self) -> bool:
        """Whether the queued job waits for the limit of its key, so that no worker claims it."""
        return self.state == self.State.QUEUED and self.due_at is not None and self.limit_turn is not None

    @property
    def can_retry(self) -> bool:
        """Whether the job can be retried by hand."""
        return self.state in states.RETRYABLE


class Attempt(models.Model):
    """An attempt at a job that did not succeed. The current attempt is stored on the job."""

    class Outcome(models.TextChoices):
        FAILED = "failed", _("Failed")
        CANCELLED = "cancelled", _("Cancelled")
        LOST = "lost", _("Worker lost")
        TIMED_OUT = "timed_out", _("Timed out")

    job = models.ForeignKey(
        "notifications.Job", models.DO_NOTHING, db_constraint=False, related_name="attempts"
    )
    number = models.PositiveIntegerField()
    worker = models.UUIDField(null=True)
    started_at = MomentField(null=True)
    ended_at = MomentField()
    outcome = models.CharField(max_length=10, choices=Outcome)
    exception_class_path = models.CharField(max_length=500, blank=True, default="")
    #: The innermost frame in code of the project, such as "shop/tasks.py:12 in report".
    location = models.CharField(_("location"), max_length=300, blank=True, default="", db_default="")
    traceback = models.TextField(blank=True, default="")

    class Meta:
        verbose_name = _("attempt")
        verbose_name_plural = _("attempts")
        default_permissions = ("view",)

    def __str__(self) -> str:
        return f"{self.job_id} #{self.number}"


class Wait(models.Model):
    """Something that a job waits for, ended once. It stays until the job is pruned, or retried from its start.

    A job that is retried by hand waits anew for what was cancelled or has expired, so those are deleted.
    """

    class How(models.TextChoices):
        """How a wait ended."""

        DUE = "due", _("Due")
        ANSWERED = "answered", _("Answered")
        CALLED_BACK = "called_back", _("Called back")
        EXPIRED = "expired", _("Expired")
        CANCELLED = "cancelled", _("Cancelled")

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    job = models.UUIDField(_("job"))
    name = models.CharField(_("name"), max_length=200)
    #: That of a ``WaitKind`` of the core or of an extension.
    kind = models.CharField(_("kind"), max_length=50)
    #: The job is suspended until it has ended. Others may end while the job runs.
    is_awaited = models.BooleanField(default=False)
    title = models.CharField(_("title"), max_length=200, blank=True, default="")
    #: JSON: what a kind needs besides, as the choices of a question.
    details = models.TextField(default="{}")
    #: The number of the attempt that has stored it.
    attempt = models.PositiveIntegerField(_("attempt"))
    created_at = MomentField(_("created"))
    #: When it ends by itself. NULL: never.
    due_at = MomentField(_("due"), null=True, blank=True)
    #: When those who were asked a question are notified again. NULL: not any more.
    remind_at = MomentField(_("next reminder"), null=True, blank=True)
    ended_at = MomentField(_("ended"), null=True, blank=True)
    how = models.CharField(max_length=12, choices=How, blank=True, default="")
    #: JSON: the answer; NULL without one.
    value = models.TextField(_("value"), null=True, blank=True)  # noqa: DJ001
    #: Who has ended it, and in which browser or by which command.
    ended_by = user_key(null=True, blank=True, verbose_name=_("ended by"))
    ended_with = models.CharField(max_length=100, blank=True, default="")
    #: Not stored: how long it lasts from when it is stored, if it ends by itself.
    lasts: Any = None
    #: Not stored: the name of who has ended it now.
    ended_by_name = ""

    class Meta:
        verbose_name = _("wait")
        verbose_name_plural = _("waits")
        default_permissions = ()
        constraints = [models.UniqueConstraint(fields=["job", "name"], name="notifications_wait_name")]
        indexes = [
            models.Index(
                fields=["due_at"], condition=Q(ended_at__isnull=True), name="notifications_wait_due"
            ),
            models.Index(
                fields=["kind", "created_at"],
                condition=Q(ended_at__isnull=True),
                name="notifications_wait_open",
            ),
            models.Index(
                fields=["ended_by"], condition=Q(ended_by__isnull=False), name="notifications_wait_ended_by"
            ),
            models.Index(
                fields=["remind_at"],
                condition=Q(ended_at__isnull=True, remind_at__isnull=False),
                name="notifications_wait_remind",
            ),
        ]

    def __str__(self) -> str:
        return self.name

    def begin(self, now: datetime) -> None:
        """Set the times of a new wait, which a job that is suspended now waits for."""
        self.created_at, self.is_awaited = now, True
        self.due_at = now + self.lasts if self.lasts is not None else None
