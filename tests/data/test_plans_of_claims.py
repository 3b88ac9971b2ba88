"""Query plans: a claim reads few rows of the jobs that it does not take, however many wait."""

import re
from datetime import timedelta
from functools import partial

import pytest
from django.contrib.auth import get_user_model
from django.db import connection
from django.db.models import Q
from django.urls import reverse
from django.utils import timezone

from notifications.extension import Upkeep, Where
from notifications.jobs import task_backends
from notifications.jobs.claiming import claim_queries
from notifications.jobs.claiming.sources import Source
from notifications.management import pause_queue
from notifications.models import Job, uuid7
from tests.data.plans import ID, NUMBERS
from tests.support.claims import claim_rows

pytestmark = [
    pytest.mark.database_law,
    pytest.mark.tables("job"),
    pytest.mark.nightly,
    pytest.mark.nightly_names("*[*-scheduled]", on="postgres"),
]

#: A worker claims jobs of the project and those of the app's own senders by two claims.
OF_PROJECT = dict.fromkeys(("async", "sync", "quarantined"), 100)
OF_SENDERS = dict.fromkeys(("sender", "email"), 100)
#: Queued jobs that cannot be claimed, and the most that a claim may read: rows, or steps of SQLite's virtual machine.
BACKLOG, MAX_READ = 10_000, {"sqlite": 60_000, "postgresql": 1_000}


@pytest.fixture
def set_claims(monkeypatch):
    """set_claims(EXTRA_ROWS_READ=20) sets how many rows a claim reads."""
    return lambda **to: [monkeypatch.setattr(claim_queries, name, to[name]) for name in to]


@pytest.mark.parametrize("later", [False, True], ids=["ready", "scheduled"])
@pytest.mark.parametrize("held_back", ["paused", "of another worker", "full", "of a full key"])
def test_claim_does_not_read_the_backlog(filled_tables, settings, held_back, later, set_claims):
    """A claim does not read the backlog of jobs that cannot be claimed, also with the statistics of empty queues."""
    set_claims(EXTRA_ROWS_READ=20)
    key = "key" if held_back.endswith("key") else ""
    if held_back == "full":
        settings.TASKS = {"default": {**settings.TASKS["default"], "OPTIONS": {"limits": {"held": 1}}}}
    if held_back.split()[-1] in ("full", "key"):
        queued_job(concurrency_key=key, priority=5).save()
        assert len(claim_rows(uuid7(), 1)) == 1
    insert_queued_jobs(BACKLOG, concurrency_key=key, priority=5, later=later)
    if held_back == "paused":
        pause_queue("held")
    served = ["default", "other"] if held_back == "of another worker" else []
    for analyzed in (False, True):
        if analyzed:
            with connection.cursor() as cursor:
                cursor.execute("ANALYZE")
        queues_and_priorities = [("held" if key else "default", 7), ("other", 3), *[("default", 0)] * 60]
        claimable = [
            queued_job(queue_name=name, priority=priority) for name, priority in queues_and_priorities
        ]
        Job.objects.bulk_create(claimable)
        claimed = []

        def claim(claimed=claimed):
            claimed += claim_rows(uuid7(), 100, queues=served, executors=OF_PROJECT)

        assert rows_read(claim) < MAX_READ[connection.vendor]
        assert claimed == claimable
        for executors in (OF_PROJECT, OF_SENDERS):
            claim_nothing = partial(claim_rows, uuid7(), 10, queues=served, executors=executors)
            assert rows_read(claim_nothing) < MAX_READ[connection.vendor]


@pytest.mark.nightly_names("*[*-of a full key]", "*[*-paused]", on="postgres")
@pytest.mark.parametrize("held_back", ["nothing", "paused", "of a full key"])
@pytest.mark.parametrize(
    ("queued_executor", "claimed_executor"), [("sync", "async"), ("async", "sync"), ("quarantined", "async")]
)
def test_claim_does_not_read_other_executors(
    filled_tables, queued_executor, claimed_executor, held_back, set_claims
):
    """A claim for one executor does not read the backlog of another executor, scheduled jobs included."""
    set_claims(EXTRA_ROWS_READ=20)
    if held_back == "paused":
        pause_queue("other")
    if held_back == "of a full key":
        queued_job(concurrency_key="full", executor=claimed_executor).save()
        assert len(claim_rows(uuid7(), 1)) == 1
        queued_job(concurrency_key="full", executor=claimed_executor, priority=9).save()
    for later in (False, True):
        insert_queued_jobs(BACKLOG // 2, executor=queued_executor, priority=5, later=later)
    executors = {claimed_executor: 10}
    for analyzed in (False, True):
        if analyzed:
            with connection.cursor() as cursor:
                cursor.execute("ANALYZE")
        claimable = [queued_job(executor=claimed_executor) for _ in range(3)]
        Job.objects.bulk_create(claimable)
        claimed = []

        def claim(claimed=claimed):
            claimed += claim_rows(uuid7(), 10, executors=executors)

        for _ in range(2):
            assert rows_read(claim) < MAX_READ[connection.vendor]
        assert claimed == claimable
    # A claim for both executors reads no more of the backlog than it claims.
    both_executors = {claimed_executor: 10, queued_executor: 2}
    assert rows_read(lambda: claim_rows(uuid7(), 10, executors=both_executors)) < MAX_READ[connection.vendor]
    assert Job.objects.filter(executor=queued_executor, state="running").count() == 2


@pytest.mark.parametrize("held_back", ["nothing", "paused", "full", "of a full key"])
def test_turns_do_not_read_the_backlog(
    filled_tables, settings, set_bounds, held_back, set_claims, admin_client
):
    """Of one share beside 1,000: to enqueue, alone and at once, to say the place of a job, and to claim in turn."""
    set_bounds(known=0.0, counted=100)
    set_claims(EXTRA_ROWS_READ=20)
    key = "key" if held_back.endswith("key") else ""
    if held_back == "full":
        settings.TASKS = {"default": {**settings.TASKS["default"], "OPTIONS": {"limits": {"held": 1}}}}
    if held_back in ("full", "of a full key"):
        queued_job(concurrency_key=key, priority=5).save()
        assert len(claim_rows(uuid7(), 1)) == 1
    insert = task_backends["default"].insert
    owner = get_user_model().objects.get()

    def place_of(job):
        Job.objects.filter(pk=job.pk).update(user_id=owner.pk)
        response = admin_client.get(reverse("notifications:api-job-place", args=[job.pk]))
        assert response.json() == {"before": 100}

    insert_queued_jobs(BACKLOG, share_name="flood", concurrency_key=key)
    flood = BACKLOG - 1_000
    with connection.cursor() as cursor:
        cursor.execute(
            f"UPDATE notifications_job SET share_name = CASE WHEN n > {flood} THEN 'share ' || n ELSE 'flood' END, "
            f"turn = CASE WHEN n > {flood} THEN 1 ELSE n END FROM (SELECT id AS of_id, row_number() OVER (ORDER BY id) "
            "AS n FROM notifications_job WHERE state = 'queued') AS numbered WHERE id = of_id"
        )
    if held_back == "paused":
        pause_queue("held")
    for analyzed in (False, True):
        if analyzed:
            with connection.cursor() as cursor:
                cursor.execute("ANALYZE")
        first, second = [
            queued_job(share_name=share, concurrency_key=key) for share in ("flood", f"new {analyzed}")
        ]
        many = [queued_job(share_name=f"share {flood + number}") for number in range(501, 601)]
        for part, work in (
            (0.1, lambda first=first: insert(first)),
            (0.1, lambda second=second: insert(second)),
            (1, lambda many=many: task_backends["default"].insert_all(many)),
            (1, lambda first=first: place_of(first)),
        ):
            assert rows_read(work) < part * MAX_READ[connection.vendor]
        assert (first.turn, {job.turn for job in many}) == (flood + 1 + analyzed, {2})
        assert second.turn <= 2  # jobs of the first turn have begun
        Job.objects.filter(pk__in=[job.pk for job in many]).delete()
        claimed = []

        def claim(claimed=claimed):
            claimed += claim_rows(uuid7(), 10, executors=OF_PROJECT)

        assert rows_read(claim) < MAX_READ[connection.vendor]
        assert [job.turn for job in claimed] == ([1] * 10 if held_back == "nothing" else [])


@pytest.mark.parametrize("later", [False, True], ids=["ready", "scheduled"])
@pytest.mark.parametrize("keys", ["one", "many"])
def test_claim_of_senders_does_not_read_the_backlog(filled_tables, keys, later, set_claims):
    """Neither that of one user, nor that of thousands."""
    set_claims(EXTRA_ROWS_READ=20, MAX_SENDER_KEYS=100)
    fields = {"executor": "sender", "queue_name": "deliveries"}
    insert_queued_jobs(BACKLOG, concurrency_key="send:1", later=later, **fields)
    if keys == "many":  # behind those of one
        queued = "FROM notifications_job WHERE queue_name = 'deliveries'"
        with connection.cursor() as cursor:
            cursor.execute(
                "UPDATE notifications_job SET concurrency_key = 'send:' || id WHERE id IN "
                f"(SELECT id {queued} ORDER BY id DESC LIMIT {BACKLOG - 20})"
            )
    for analyzed in (False, True):
        if analyzed:
            with connection.cursor() as cursor:
                cursor.execute("ANALYZE")
        claimed = []

        def claim(claimed=claimed):
            claimed += claim_rows(uuid7(), 10, executors={"sender": 10, "email": 4})

        for _ in range(2):
            assert rows_read(claim) < MAX_READ[connection.vendor]
        # The task, which is unknown here, may run once at a time for a key.
        assert len(claimed) == (0 if later else 20 if keys == "many" else 1 - analyzed)


ENGINE = {"BACKEND": "notifications.jobs.backend.JobBackend", "OPTIONS": {"engine": "no.engine"}}


@pytest.mark.nightly_names("*[two]", on="postgres")
@pytest.mark.parametrize("alias", ["one", "two", "builtin"])
def test_claim_does_not_read_the_backlogs_of_other_backends(filled_tables, settings, alias, set_claims):
    """Two engines and the built-in worker have queues of one name."""
    set_claims(EXTRA_ROWS_READ=20)
    settings.TASKS = {"one": ENGINE, "two": ENGINE, "builtin": settings.TASKS["default"]}
    is_of_engine = alias != "builtin"
    source = {"source": Source(backends=(alias,), queues=("default",))} if is_of_engine else {}
    for other in settings.TASKS:
        if other != alias:
            for executor in ("sync", "async"):
                insert_queued_jobs(BACKLOG // 2, backend=other, queue_name="default", executor=executor)
    for analyzed in (False, True):
        if analyzed:
            with connection.cursor() as cursor:
                cursor.execute("ANALYZE")
        claimable = [
            queued_job(backend=alias, queue_name="default", executor=executor)
            for executor in ("sync", "async", "sync")
        ]
        Job.objects.bulk_create(claimable)
        claimed = []

        def claim(claimed=claimed):
            claimed += claim_rows(uuid7(), 10, **source, executors=OF_PROJECT)

        for _ in range(2):  # the second one finds nothing
            assert rows_read(claim) < MAX_READ[connection.vendor]
        assert claimed == claimable


def test_scheduled_jobs_are_moved_without_reading_others(filled_tables, set_bounds):
    """Neither those that are due later, nor those in the queue, nor what is done."""
    set_bounds(rows=100)
    insert_queued_jobs(BACKLOG, priority=5)
    insert_queued_jobs(2 * BACKLOG, due_at=timezone.now() + timedelta(days=1), queue_name="later")
    for analyzed in (False, True):
        if analyzed:
            with connection.cursor() as cursor:
                cursor.execute("ANALYZE")
        Job.objects.bulk_create([queued_job(later=True, queue_name="default") for _ in range(150)])
        process = Upkeep(Where.SERVER, seconds=60)
        [duty] = [duty for duty in process.duties if duty.name == "queue jobs that are due"]

        def move(process=process, duty=duty):
            process.run_first([duty])

        assert rows_read(move) < 2 * MAX_READ[connection.vendor]
        assert not Job.objects.filter(queue_name="default", due_at__isnull=False).exists()
        assert rows_read(move) < MAX_READ[connection.vendor] / 100


def test_awaited_jobs_are_looked_up(filled_tables):
    """Jobs that others wait for are claimed by their ids and batches, without reading the backlog."""
    insert_queued_jobs(BACKLOG, priority=5)
    pause_queue("held")
    for analyzed in (False, True):
        if analyzed:
            with connection.cursor() as cursor:
                cursor.execute("ANALYZE")
        batch = uuid7()
        awaited = [queued_job(queue_name="default", batch=batch, priority=-number) for number in range(2)]
        awaited.append(queued_job(queue_name="default", run_after=timezone.now(), priority=-2))
        for row in awaited:
            row.save()
        claimed, among = [], Q(id__in=[awaited[2].pk]) | Q(batch__in=[batch])

        def claim(claimed=claimed, among=among):
            claimed += claim_rows(uuid7(), 10, among=among)

        assert rows_read(claim) < MAX_READ[connection.vendor]
        assert claimed == awaited


def test_reading_the_backlog_is_detected(filled_tables):
    """rows_read() exceeds the limit if a query reads the whole backlog: otherwise the tests above prove nothing."""
    insert_queued_jobs(BACKLOG)
    whole_backlog = Job.objects.filter(state="queued", due_at=None, title="x").order_by("-priority", "id")
    assert rows_read(lambda: list(whole_backlog)) > MAX_READ[connection.vendor]


def insert_queued_jobs(count, **fields):
    """Insert copies of a queued job by one statement: the ORM takes a second for 10,000 rows."""
    original = queued_job(**fields)
    original.save()
    columns = [field.column for field in Job._meta.concrete_fields if not field.primary_key]
    numbers = NUMBERS[connection.vendor].format(count - 1)
    with connection.cursor() as cursor:
        cursor.execute(
            f"INSERT INTO notifications_job (id, {', '.join(columns)}) {numbers} "
            f"SELECT {ID[connection.vendor]}, {', '.join(columns)} FROM notifications_job, n WHERE id = %s",
            [Job._meta.pk.get_db_prep_value(original.pk, connection)],
        )
    assert Job.objects.filter(state="queued", queue_name=original.queue_name).count() >= count


def queued_job(*, later=False, **fields):
    """Build an unsaved queued job. If ``later``, it is scheduled: due an hour ago, and not in the queue yet."""
    now = timezone.now()
    due_at = now - timedelta(hours=1) if later else None
    return Job(
        task_path="tests.tasks.nothing",
        title="Work",
        created_at=now,
        queued_at=now,
        **{"backend": "default", "queue_name": "held", "run_after": due_at, "due_at": due_at, **fields},
    )


def rows_read(work):
    """Return how many rows of jobs ``work()`` reads on PostgreSQL, or how many steps SQLite's virtual machine takes."""
    if connection.vendor == "sqlite":
        steps = []
        connection.connection.set_progress_handler(lambda: steps.append(1), 10)
        try:
            work()
        finally:
            connection.connection.set_progress_handler(None, 10)
        return len(steps) * 10
    row_counts = []

    def measure(execute, sql, params, many, context):
        statement = re.sub(r"^(SET [^;]*; )+", "", sql).strip()
        if re.match("SELECT|INSERT|UPDATE|WITH", statement) and "notifications_job" in statement:
            db = connection.connection
            with db.transaction(force_rollback=True), db.cursor() as cursor:
                cursor.execute(f"EXPLAIN (ANALYZE, FORMAT JSON) {statement}", params)
                row_counts.append(rows_of(cursor.fetchone()[0][0]["Plan"]))
        return execute(sql, params, many, context)

    with connection.execute_wrapper(measure):
        work()
    assert row_counts
    return sum(row_counts)


def rows_of(plan):
    """Return the number of job rows that an executed plan has read, including those that it filtered out."""
    names = ("Actual Rows", "Rows Removed by Filter", "Rows Removed by Index Recheck")
    own = sum(plan.get(name, 0) for name in names) * plan["Actual Loops"]
    read = own if plan.get("Relation Name") == "notifications_job" else 0
    return read + sum(rows_of(part) for part in plan.get("Plans", ()))
