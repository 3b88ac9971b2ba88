from django.conf import settings
from django.db import migrations, models
from django.db.models.functions import Coalesce
from django.db.models.lookups import IsNull

from notifications.ids import uuid7


def user(field=models.ForeignKey, **options):
    options |= {"db_constraint": False, "on_delete": models.DO_NOTHING, "related_name": "+"}
    if field is models.ForeignKey:
        options.setdefault("db_index", False)
    return field(to=settings.AUTH_USER_MODEL, **options)


class Migration(migrations.Migration):
    initial = True

    dependencies = [migrations.swappable_dependency(settings.AUTH_USER_MODEL)]

    operations = [
        migrations.CreateModel(
            name="DutyRun",
            fields=[
                ("name", models.CharField(max_length=100, primary_key=True, serialize=False)),
                ("last_run_at", models.DateTimeField()),
            ],
            options={
                "default_permissions": (),
            },
        ),
        migrations.CreateModel(
            name="Epoch",
            fields=[
                ("id", models.SmallIntegerField(default=1, primary_key=True, serialize=False)),
                ("value", models.UUIDField()),
            ],
            options={
                "default_permissions": (),
            },
        ),
        migrations.CreateModel(
            name="Queue",
            fields=[
                (
                    "name",
                    models.CharField(max_length=100, primary_key=True, serialize=False, verbose_name="queue"),
                ),
                ("paused_at", models.DateTimeField(blank=True, null=True, verbose_name="paused")),
            ],
            options={
                "verbose_name": "queue",
                "verbose_name_plural": "queues",
                "default_permissions": ("view", "change"),
            },
        ),
        migrations.CreateModel(
            name="QueueClock",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("backend", models.CharField(max_length=100)),
                ("queue_name", models.CharField(max_length=100)),
                ("executor", models.CharField(max_length=20)),
                ("priority", models.SmallIntegerField()),
                ("turn", models.BigIntegerField()),
            ],
            options={
                "default_permissions": (),
                "constraints": [
                    models.UniqueConstraint(
                        fields=["backend", "queue_name", "executor", "priority"],
                        name="notifications_queueclock_key",
                    )
                ],
            },
        ),
        migrations.CreateModel(
            name="LimitedQueue",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("backend", models.CharField(max_length=100)),
                ("queue_name", models.CharField(max_length=100)),
                ("key", models.CharField(max_length=200)),
                ("opens_at", models.DateTimeField(db_index=True)),
            ],
            options={
                "default_permissions": (),
                "constraints": [
                    models.UniqueConstraint(
                        fields=["key", "backend", "queue_name"],
                        name="notifications_limitedqueue_key",
                    )
                ],
            },
        ),
        migrations.CreateModel(
            name="InboxViews",
            fields=[
                (
                    "user",
                    user(models.OneToOneField, primary_key=True, serialize=False, verbose_name="user"),
                ),
                ("views", models.TextField(default="[]")),
            ],
            options={"default_permissions": ()},
        ),
        migrations.CreateModel(
            name="ServerProcess",
            fields=[
                (
                    "id",
                    models.UUIDField(default=uuid7, editable=False, primary_key=True, serialize=False),
                ),
                ("host", models.CharField(max_length=255, verbose_name="host")),
                ("pid", models.PositiveBigIntegerField(verbose_name="process id")),
                ("started_at", models.DateTimeField(verbose_name="started")),
                ("lease_until", models.DateTimeField(verbose_name="lease until")),
                ("sockets", models.PositiveIntegerField(default=0, verbose_name="sockets")),
                ("users", models.PositiveIntegerField(default=0, verbose_name="users")),
            ],
            options={
                "verbose_name": "server process",
                "verbose_name_plural": "server processes",
                "default_permissions": (),
            },
        ),
        migrations.CreateModel(
            name="Stream",
            fields=[
                (
                    "user",
                    user(models.OneToOneField, primary_key=True, serialize=False, verbose_name="user"),
                ),
                ("head", models.BigIntegerField(default=0)),
                ("floor", models.BigIntegerField(default=0)),
                ("unread", models.BigIntegerField(default=0)),
                ("seen", models.BigIntegerField(db_default=0, default=0)),
                ("unseen", models.BigIntegerField(db_default=0, default=0)),
                ("guard", models.BigIntegerField(default=0)),
            ],
            options={
                "verbose_name": "stream",
                "verbose_name_plural": "streams",
                "default_permissions": ("view",),
            },
        ),
        migrations.CreateModel(
            name="Worker",
            fields=[
                (
                    "id",
                    models.UUIDField(default=uuid7, editable=False, primary_key=True, serialize=False),
                ),
                ("host", models.CharField(max_length=255, verbose_name="host")),
                ("process", models.CharField(max_length=255, verbose_name="process")),
                ("started_at", models.DateTimeField(verbose_name="started")),
                ("lease_until", models.DateTimeField(verbose_name="lease until")),
                ("queues", models.CharField(blank=True, default="", max_length=1000, verbose_name="queues")),
                ("concurrency", models.PositiveIntegerField(verbose_name="concurrency")),
                ("load", models.PositiveIntegerField(default=0, verbose_name="load")),
                ("outbound", models.TextField(blank=True, default="", verbose_name="outbound calls")),
                (
                    "request",
                    models.CharField(
                        blank=True,
                        choices=[("quiet", "Quiet"), ("stop", "Stop")],
                        db_default="",
                        default="",
                        max_length=10,
                    ),
                ),
                ("memory", models.BigIntegerField(editable=False, null=True, verbose_name="memory")),
                ("stuck_calls", models.PositiveSmallIntegerField(db_default=0, default=0, editable=False)),
            ],
            options={
                "verbose_name": "worker",
                "verbose_name_plural": "workers",
                "default_permissions": ("view", "change"),
            },
        ),
        migrations.CreateModel(
            name="Job",
            fields=[
                (
                    "id",
                    models.UUIDField(
                        default=uuid7,
                        editable=False,
                        primary_key=True,
                        serialize=False,
                        verbose_name="ID",
                    ),
                ),
                ("seq", models.BigIntegerField(default=0, editable=False, null=True)),
                ("version", models.BigIntegerField(default=1, editable=False)),
                ("task_path", models.CharField(max_length=500, verbose_name="task")),
                ("args", models.TextField(default="[]", verbose_name="arguments")),
                ("kwargs", models.TextField(default="{}", verbose_name="keyword arguments")),
                ("backend", models.CharField(max_length=100, verbose_name="backend")),
                ("queue_name", models.CharField(max_length=100, verbose_name="queue")),
                (
                    "executor",
                    models.CharField(
                        choices=[
                            ("async", "Async"),
                            ("sync", "Sync"),
                            ("quarantined", "Quarantined"),
                            ("sender", "Sender"),
                            ("email", "E-mail"),
                        ],
                        db_default="sync",
                        default="sync",
                        editable=False,
                        max_length=20,
                    ),
                ),
                ("priority", models.SmallIntegerField(default=0, verbose_name="priority")),
                (
                    "share_name",
                    models.CharField(blank=True, db_default="", default="", editable=False, max_length=200),
                ),
                ("turn", models.BigIntegerField(db_default=0, default=0, editable=False)),
                ("run_after", models.DateTimeField(blank=True, null=True, verbose_name="run after")),
                ("due_at", models.DateTimeField(blank=True, editable=False, null=True)),
                (
                    "limit_key",
                    models.CharField(blank=True, db_default="", default="", editable=False, max_length=200),
                ),
                ("limit_turn", models.BigIntegerField(blank=True, editable=False, null=True)),
                (
                    "state",
                    models.CharField(
                        choices=[
                            ("queued", "Queued"),
                            ("running", "Running"),
                            ("waiting", "Waiting"),
                            ("succeeded", "Succeeded"),
                            ("failed", "Failed"),
                            ("cancelled", "Cancelled"),
                        ],
                        default="queued",
                        max_length=10,
                        verbose_name="state",
                    ),
                ),
                ("attempt", models.PositiveIntegerField(default=0, verbose_name="attempt")),
                ("max_attempts", models.PositiveIntegerField(default=1, verbose_name="attempts at most")),
                ("retries", models.PositiveIntegerField(db_default=0, default=0, editable=False)),
                ("worker", models.UUIDField(blank=True, null=True, verbose_name="worker")),
                ("fence", models.BigIntegerField(default=0)),
                ("deadline", models.DateTimeField(blank=True, null=True, verbose_name="deadline")),
                ("fail_if_unknown_after", models.DateTimeField(blank=True, editable=False, null=True)),
                ("expires_at", models.DateTimeField(blank=True, editable=False, null=True)),
                (
                    "inbox_group",
                    models.CharField(blank=True, db_default="", default="", editable=False, max_length=100),
                ),
                ("progress_current", models.BigIntegerField(blank=True, null=True)),
                ("progress_total", models.BigIntegerField(blank=True, null=True)),
                ("progress_message", models.CharField(blank=True, default="", max_length=200)),
                ("waiting", models.TextField(blank=True, editable=False, null=True)),
                ("result", models.TextField(blank=True, null=True)),
                ("error", models.TextField(blank=True, null=True)),
                ("title", models.CharField(max_length=200, verbose_name="title")),
                ("url", models.CharField(blank=True, default="", max_length=1000, verbose_name="link")),
                ("language", models.CharField(blank=True, default="", max_length=20)),
                ("trace", models.CharField(blank=True, default="", max_length=800)),
                ("idempotency_key", models.CharField(blank=True, default="", max_length=200)),
                ("idempotency_hash", models.CharField(blank=True, default="", max_length=64)),
                ("idempotency_expires_at", models.DateTimeField(blank=True, null=True)),
                ("concurrency_key", models.CharField(blank=True, default="", max_length=200)),
                ("batch", models.UUIDField(blank=True, null=True)),
                (
                    "schedule",
                    models.CharField(
                        blank=True,
                        db_default="",
                        default="",
                        editable=False,
                        max_length=100,
                        verbose_name="schedule",
                    ),
                ),
                ("event_source", models.UUIDField(blank=True, editable=False, null=True)),
                ("cancel_requested_at", models.DateTimeField(blank=True, null=True)),
                ("cancelled_by_other", models.BooleanField(default=False)),
                ("owner_acted_at", models.DateTimeField(blank=True, editable=False, null=True)),
                ("created_at", models.DateTimeField(editable=False, verbose_name="created")),
                ("queued_at", models.DateTimeField(editable=False, verbose_name="queued")),
                (
                    "started_at",
                    models.DateTimeField(blank=True, editable=False, null=True, verbose_name="started"),
                ),
                (
                    "finished_at",
                    models.DateTimeField(blank=True, editable=False, null=True, verbose_name="finished"),
                ),
                (
                    "user",
                    user(blank=True, null=True, verbose_name="user"),
                ),
            ],
            options={
                "verbose_name": "job",
                "verbose_name_plural": "jobs",
                "permissions": [
                    ("view_job_arguments", "Can view the arguments of jobs"),
                    ("view_traceback", "Can view the tracebacks of jobs"),
                ],
                "default_permissions": ("add", "view", "change"),
                "indexes": [
                    models.Index(fields=["user", "seq"], name="notifications_job_seq"),
                    models.Index(fields=["user", "created_at", "id"], name="notifications_job_user"),
                    models.Index(
                        condition=models.Q(("queued_at__gt", models.F("created_at"))),
                        fields=["user", "queued_at"],
                        name="notifications_job_retried",
                    ),
                    models.Index(
                        condition=models.Q(("seq__isnull", True)),
                        fields=["user", "id"],
                        name="notifications_job_unnumbered",
                    ),
                    models.Index(
                        condition=models.Q(("seq", 0), ("user__isnull", False)),
                        fields=["user", "queued_at"],
                        name="notifications_job_active",
                    ),
                    models.Index(
                        condition=models.Q(("due_at__isnull", True), ("state", "queued")),
                        fields=["executor", "-priority", "turn", "id"],
                        name="notifications_job_ready",
                    ),
                    models.Index(
                        condition=models.Q(("due_at__isnull", False), ("state", "queued")),
                        fields=["due_at", "id"],
                        name="notifications_job_scheduled",
                    ),
                    models.Index(
                        condition=models.Q(("state__startswith", "queued")),
                        fields=["backend", "queue_name", "executor", "due_at", "-priority", "turn", "id"],
                        name="notifications_job_queued",
                    ),
                    models.Index(
                        condition=models.Q(("due_at__isnull", True), ("state__endswith", "queued")),
                        fields=[
                            *("backend", "queue_name", "executor", "concurrency_key"),
                            *("-priority", "turn", "id"),
                        ],
                        name="notifications_job_keyed",
                    ),
                    models.Index(
                        condition=models.Q(("due_at__isnull", True), ("state__contains", "queued")),
                        fields=["backend", "queue_name", "executor", "priority", "share_name", "-turn"],
                        name="notifications_job_share",
                    ),
                    models.Index(
                        condition=models.Q(("limit_turn__isnull", False), ("state", "queued")),
                        fields=[
                            *("backend", "queue_name", "limit_key", "-priority"),
                            *("limit_turn", "id", "due_at"),
                        ],
                        name="notifications_job_limited",
                    ),
                    models.Index(
                        condition=models.Q(("limit_turn__isnull", False), ("state", "queued")),
                        fields=[
                            *("backend", "queue_name", "limit_key", "priority"),
                            *("share_name", "-limit_turn"),
                        ],
                        name="notifications_job_limit_share",
                    ),
                    models.Index(
                        condition=models.Q(("state", "running")),
                        fields=["worker", "id"],
                        name="notifications_job_running",
                    ),
                    models.Index(
                        condition=models.Q(("state", "waiting")),
                        fields=["id"],
                        name="notifications_job_waiting",
                    ),
                    models.Index(
                        condition=models.Q(("expires_at__isnull", False), ("state", "queued")),
                        fields=["expires_at", "id"],
                        name="notifications_job_expiry",
                    ),
                    models.Index(
                        condition=models.Q(("finished_at__isnull", False)),
                        fields=["finished_at"],
                        name="notifications_job_finished",
                    ),
                    models.Index(
                        condition=models.Q(("state", "failed")),
                        fields=["finished_at", "task_path", "attempt", "user", "id"],
                        name="notifications_job_failed",
                    ),
                    models.Index(
                        condition=models.Q(("idempotency_key__gt", "")),
                        fields=["idempotency_key"],
                        name="notifications_job_key_any",
                    ),
                    models.Index(
                        condition=models.Q(("batch__isnull", False)),
                        fields=["batch", "state"],
                        name="notifications_job_batch",
                    ),
                    models.Index(
                        condition=models.Q(("event_source__isnull", False)),
                        fields=["event_source", "id"],
                        name="notifications_job_event",
                    ),
                    models.Index(
                        condition=models.Q(("state", "failed")),
                        fields=["created_at", "id", "state"],
                        name="notifications_job_failed_at",
                    ),
                    models.Index(
                        condition=models.Q(("state", "cancelled")),
                        fields=["created_at", "id", "state"],
                        name="notifications_job_cancelled_at",
                    ),
                    models.Index(fields=["created_at", "id"], name="notifications_job_list"),
                ],
                "constraints": [
                    models.UniqueConstraint(
                        condition=models.Q(
                            ("user__isnull", False), models.Q(("idempotency_key", ""), _negated=True)
                        ),
                        fields=("user", "idempotency_key"),
                        name="notifications_job_key",
                    ),
                    models.UniqueConstraint(
                        condition=models.Q(
                            ("user__isnull", True), models.Q(("idempotency_key", ""), _negated=True)
                        ),
                        fields=("idempotency_key",),
                        name="notifications_job_key_nobody",
                    ),
                ],
            },
        ),
        migrations.CreateModel(
            name="Attempt",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("number", models.PositiveIntegerField()),
                ("worker", models.UUIDField(null=True)),
                ("started_at", models.DateTimeField(null=True)),
                ("ended_at", models.DateTimeField()),
                (
                    "outcome",
                    models.CharField(
                        choices=[
                            ("failed", "Failed"),
                            ("cancelled", "Cancelled"),
                            ("lost", "Worker lost"),
                            ("timed_out", "Timed out"),
                        ],
                        max_length=10,
                    ),
                ),
                ("exception_class_path", models.CharField(blank=True, default="", max_length=500)),
                (
                    "location",
                    models.CharField(
                        blank=True, db_default="", default="", max_length=300, verbose_name="location"
                    ),
                ),
                ("traceback", models.TextField(blank=True, default="")),
                (
                    "job",
                    models.ForeignKey(
                        db_constraint=False,
                        on_delete=models.DO_NOTHING,
                        related_name="attempts",
                        to="notifications.job",
                    ),
                ),
            ],
            options={
                "verbose_name": "attempt",
                "verbose_name_plural": "attempts",
                "default_permissions": ("view",),
            },
        ),
        migrations.CreateModel(
            name="Notification",
            fields=[
                (
                    "id",
                    models.UUIDField(
                        default=uuid7,
                        editable=False,
                        primary_key=True,
                        serialize=False,
                        verbose_name="ID",
                    ),
                ),
                ("seq", models.BigIntegerField(editable=False, null=True, verbose_name="position (seq)")),
                (
                    "raised",
                    models.BigIntegerField(editable=False, null=True, verbose_name="first position (raised)"),
                ),
                ("counted", models.BooleanField(default=False, editable=False)),
                (
                    "level",
                    models.CharField(
                        choices=[
                            ("info", "Info"),
                            ("success", "Success"),
                            ("warning", "Warning"),
                            ("error", "Error"),
                        ],
                        default="info",
                        max_length=10,
                        verbose_name="level",
                    ),
                ),
                (
                    "category",
                    models.CharField(blank=True, default="", max_length=100, verbose_name="category"),
                ),
                ("title", models.CharField(max_length=200, verbose_name="title")),
                ("body", models.TextField(blank=True, default="", max_length=2000, verbose_name="body")),
                ("url", models.CharField(blank=True, default="", max_length=1000, verbose_name="link")),
                ("job", models.UUIDField(blank=True, null=True, verbose_name="job")),
                ("data", models.TextField(default="{}", editable=False, verbose_name="data")),
                ("key", models.CharField(blank=True, default="", max_length=200, verbose_name="key")),
                (
                    "broadcast",
                    models.UUIDField(blank=True, editable=False, null=True, verbose_name="broadcast"),
                ),
                ("created_at", models.DateTimeField(editable=False, verbose_name="created")),
                ("read_at", models.DateTimeField(blank=True, editable=False, null=True, verbose_name="read")),
                (
                    "archived_at",
                    models.DateTimeField(blank=True, editable=False, null=True, verbose_name="archived"),
                ),
                ("open_question", models.UUIDField(blank=True, editable=False, null=True)),
                ("snoozed_until", models.DateTimeField(blank=True, editable=False, null=True)),
                ("snoozed_at", models.DateTimeField(blank=True, editable=False, null=True)),
                ("returned_at", models.DateTimeField(blank=True, editable=False, null=True)),
                ("group_key", models.CharField(blank=True, editable=False, max_length=102, null=True)),
                (
                    "user",
                    user(verbose_name="user"),
                ),
            ],
            options={
                "verbose_name": "notification",
                "verbose_name_plural": "notifications",
                "default_permissions": ("add", "view"),
                "indexes": [
                    models.Index(fields=["user", "seq"], name="notifications_n_seq"),
                    models.Index(
                        condition=models.Q(("seq__isnull", True)),
                        fields=["user", "id"],
                        name="notifications_n_unnumbered",
                    ),
                    models.Index(
                        models.F("key"),
                        Coalesce("user", "user"),
                        condition=models.Q(
                            IsNull(Coalesce("read_at", "archived_at"), True),
                            models.Q(("key", ""), _negated=True),
                        ),
                        name="notifications_n_open_key",
                    ),
                    models.Index(
                        condition=models.Q(("archived_at__isnull", False)),
                        fields=["archived_at"],
                        name="notifications_n_archived",
                    ),
                    models.Index(
                        condition=models.Q(("broadcast__isnull", False)),
                        fields=["broadcast", "id", "read_at"],
                        name="notifications_n_broadcast",
                    ),
                    models.Index(
                        condition=models.Q(("open_question__isnull", False)),
                        fields=["user", "raised"],
                        name="notifications_n_question",
                    ),
                    models.Index(
                        condition=models.Q(("snoozed_until__isnull", False)),
                        fields=["user", "raised"],
                        name="notifications_n_snoozed",
                    ),
                    models.Index(
                        condition=models.Q(("snoozed_until__isnull", False)),
                        fields=["snoozed_until"],
                        name="notifications_n_due",
                    ),
                    models.Index(
                        condition=models.Q(("archived_at__isnull", True), ("read_at__isnull", True)),
                        fields=["user", "raised"],
                        name="notifications_n_inbox_unread",
                    ),
                    models.Index(
                        condition=models.Q(("archived_at__isnull", True), ("read_at__isnull", False)),
                        fields=["user", "raised"],
                        name="notifications_n_inbox_read",
                    ),
                    models.Index(
                        condition=models.Q(("archived_at__isnull", False), ("read_at__isnull", True)),
                        fields=["user", "raised"],
                        name="notifications_n_arch_unread",
                    ),
                    models.Index(
                        condition=models.Q(("archived_at__isnull", False), ("read_at__isnull", False)),
                        fields=["user", "raised"],
                        name="notifications_n_arch_read",
                    ),
                    models.Index(
                        condition=models.Q(
                            ("archived_at__isnull", True),
                            ("group_key__isnull", False),
                            ("read_at__isnull", True),
                        ),
                        fields=["user", "group_key", "raised"],
                        name="notifications_n_group_unread",
                    ),
                    models.Index(
                        condition=models.Q(
                            ("archived_at__isnull", True),
                            ("group_key__isnull", False),
                            ("read_at__isnull", False),
                        ),
                        fields=["user", "group_key", "raised"],
                        name="notifications_n_group_read",
                    ),
                ],
            },
        ),
        migrations.CreateModel(
            name="JobTag",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("job", models.UUIDField()),
                ("tag", models.CharField(max_length=100)),
            ],
            options={
                "default_permissions": (),
                "indexes": [models.Index(fields=["job"], name="notifications_tag_job")],
                "constraints": [
                    models.UniqueConstraint(fields=("tag", "job"), name="notifications_tag_jobs")
                ],
            },
        ),
        migrations.CreateModel(
            name="PendingMark",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("verb", models.CharField(max_length=10)),
                ("moment", models.DateTimeField()),
                ("category", models.CharField(max_length=100, null=True)),
                ("level", models.CharField(blank=True, default="", max_length=10)),
                ("group", models.CharField(max_length=102, null=True)),
                ("after", models.BigIntegerField()),
                ("up_to", models.BigIntegerField()),
                (
                    "user",
                    user(),
                ),
            ],
            options={
                "default_permissions": (),
                "indexes": [models.Index(fields=["user"], name="notifications_pendingmark_user")],
            },
        ),
        migrations.CreateModel(
            name="Ring",
            fields=[
                ("id", models.BigAutoField(primary_key=True, serialize=False)),
                ("origin", models.BigIntegerField(null=True)),
                ("rung_at", models.BigIntegerField(db_default=0, default=0)),
                ("change", models.TextField(null=True)),
                (
                    "user",
                    user(null=True, verbose_name="user"),
                ),
            ],
            options={
                "default_permissions": (),
            },
        ),
        migrations.CreateModel(
            name="SeenMark",
            fields=[
                (
                    "id",
                    models.UUIDField(default=uuid7, editable=False, primary_key=True, serialize=False),
                ),
                ("up_to", models.BigIntegerField()),
                ("at", models.DateTimeField()),
                ("browser", models.CharField(blank=True, default="", max_length=100)),
                ("receipts", models.TextField(blank=True, editable=False, null=True)),
                (
                    "user",
                    user(),
                ),
            ],
            options={
                "default_permissions": (),
                "indexes": [
                    models.Index(fields=["user", "up_to"], name="notifications_seenmark_user"),
                    models.Index(fields=["at"], name="notifications_seenmark_old"),
                ],
            },
        ),
        migrations.CreateModel(
            name="Wait",
            fields=[
                (
                    "id",
                    models.UUIDField(default=uuid7, editable=False, primary_key=True, serialize=False),
                ),
                ("job", models.UUIDField(verbose_name="job")),
                ("name", models.CharField(max_length=200, verbose_name="name")),
                ("kind", models.CharField(max_length=50, verbose_name="kind")),
                ("is_awaited", models.BooleanField(default=False)),
                ("title", models.CharField(blank=True, default="", max_length=200, verbose_name="title")),
                ("details", models.TextField(default="{}")),
                ("attempt", models.PositiveIntegerField(verbose_name="attempt")),
                ("created_at", models.DateTimeField(verbose_name="created")),
                ("due_at", models.DateTimeField(blank=True, null=True, verbose_name="due")),
                ("remind_at", models.DateTimeField(blank=True, null=True, verbose_name="next reminder")),
                ("ended_at", models.DateTimeField(blank=True, null=True, verbose_name="ended")),
                (
                    "how",
                    models.CharField(
                        blank=True,
                        choices=[
                            ("due", "Due"),
                            ("answered", "Answered"),
                            ("called_back", "Called back"),
                            ("expired", "Expired"),
                            ("cancelled", "Cancelled"),
                        ],
                        default="",
                        max_length=12,
                    ),
                ),
                ("value", models.TextField(blank=True, null=True, verbose_name="value")),
                ("ended_with", models.CharField(blank=True, default="", max_length=100)),
                (
                    "ended_by",
                    user(blank=True, null=True, verbose_name="ended by"),
                ),
            ],
            options={
                "verbose_name": "wait",
                "verbose_name_plural": "waits",
                "default_permissions": (),
                "indexes": [
                    models.Index(
                        condition=models.Q(("ended_at__isnull", True)),
                        fields=["due_at"],
                        name="notifications_wait_due",
                    ),
                    models.Index(
                        condition=models.Q(("ended_at__isnull", True)),
                        fields=["kind", "created_at"],
                        name="notifications_wait_open",
                    ),
                    models.Index(
                        condition=models.Q(("ended_at__isnull", True), ("remind_at__isnull", False)),
                        fields=["remind_at"],
                        name="notifications_wait_remind",
                    ),
                    models.Index(
                        condition=models.Q(("ended_by__isnull", False)),
                        fields=["ended_by"],
                        name="notifications_wait_ended_by",
                    ),
                ],
                "constraints": [
                    models.UniqueConstraint(fields=("job", "name"), name="notifications_wait_name")
                ],
            },
        ),
        migrations.CreateModel(
            name="AnnouncedState",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("topic", models.CharField(max_length=200)),
                ("state", models.CharField(max_length=20)),
                (
                    "user",
                    user(db_index=True),
                ),
            ],
            options={
                "default_permissions": (),
                "constraints": [
                    models.UniqueConstraint(fields=("topic", "user"), name="notifications_announcedstate_key")
                ],
            },
        ),
        migrations.CreateModel(
            name="OwedCall",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("extension", models.CharField(max_length=100)),
                ("hook", models.CharField(max_length=40)),
                ("subject", models.UUIDField()),
                ("facts", models.TextField(default="{}")),
                ("tries", models.PositiveIntegerField(default=0)),
                ("due_at", models.DateTimeField()),
            ],
            options={
                "default_permissions": (),
                "indexes": [
                    models.Index(fields=["extension", "due_at"], name="notifications_owed_due"),
                    models.Index(fields=["subject"], name="notifications_owed_subject"),
                ],
            },
        ),
    ]
