"""Other processes on SQLite read the rows of new jobs, which have no rings."""

import os
import re

import pytest
from django.db import OperationalError, connection, transaction
from django.test.utils import CaptureQueriesContext

from notifications.api import batch
from notifications.db import new_row
from notifications.jobs import limits, task_backends
from notifications.models import Job, Ring
from notifications.realtime import listen
from notifications.realtime.doorbell import _handle_rung, doorbell, sqlite
from notifications.signals import rung
from notifications.streams import rings
from tests.data.rows import job
from tests.jobs import tasks
from tests.realtime.ringing import ListenerProcess, ring
from tests.support.waiting import wait_until

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.skipif("postgres" in os.environ.get("DATABASE_URL", ""), reason="needs a SQLite file"),
]


@pytest.fixture
def calls(transactional_db):
    """What the listener has rung: users and whether the job queue has something new. The signal of commits is off."""
    calls = []
    rung.disconnect(dispatch_uid="notifications.doorbell")
    stop = listen(lambda users, queue: calls.append((set(users), queue)))
    wait_until(lambda: doorbell._listener.is_listening)
    yield calls
    stop()
    rung.connect(_handle_rung, dispatch_uid="notifications.doorbell")


@pytest.fixture
def as_other_process(monkeypatch):
    """Jobs that this process enqueues look like another process's."""
    monkeypatch.setattr(rings, "MAX_OWN_JOBS", 0)


@pytest.fixture
def set_limit(monkeypatch):
    """set_limit(name, number) sets how many rows of jobs the listener reads."""
    return lambda name, number: monkeypatch.setattr(sqlite, name, number)


def wait_until_read():
    """Wait until the listener has read the newest job."""
    newest = Job.objects.raw("SELECT * FROM notifications_job ORDER BY rowid DESC LIMIT 1")[0].id.hex
    wait_until(lambda: doorbell._listener._last_job[1] == newest)


def enqueue(user=None, **fields):
    """Enqueue a job, and return its rowid."""
    row = job(user, **fields)
    with connection.cursor() as cursor:
        cursor.execute("SELECT rowid FROM notifications_job WHERE id = %s", [row.id.hex])
        return cursor.fetchone()[0]


def test_enqueueing_is_one_statement(user):
    """Outside a transaction it needs none, and no row of Ring."""
    tasks.noop.using(owner=user).enqueue()  # which checks the limit of active jobs
    with CaptureQueriesContext(connection) as queries:
        tasks.noop.using(owner=user).enqueue()
    assert [re.split(r"\W+\(", query["sql"])[0] for query in queries] == ["INSERT INTO notifications_job"]
    assert not Ring.objects.exists()


def busy(times):
    """Return a wrapper of statements, which refuses the first that insert jobs as a busy database does."""
    failures = [OperationalError("database is locked")] * times

    def wrap(execute, sql, params, many, context):
        if sql.startswith("INSERT INTO notifications_job") and failures:
            raise failures.pop()
        return execute(sql, params, many, context)

    return connection.execute_wrapper(wrap)


def test_enqueueing_is_repeated_while_the_database_is_busy(user):
    """It waits longer than SQLite's own timeout."""
    with busy(2):
        tasks.noop.using(owner=user).enqueue()
    assert Job.objects.count() == 1


def test_busy_in_a_callers_transaction(user):
    """The caller repeats it as a whole."""
    with busy(1), pytest.raises(OperationalError), transaction.atomic():
        tasks.noop.using(owner=user).enqueue()
    assert not Job.objects.exists()


def test_job_of_another_process(calls, as_other_process, user):
    """It rings for the owner and for the workers, in one call."""
    enqueue(user)
    wait_until(lambda: calls)
    assert calls == [({user.pk}, True)]
    wait_until_read()


def test_job_without_owner(calls, as_other_process):
    """It rings for the workers only."""
    enqueue()
    wait_until(lambda: calls)
    assert calls == [(set(), True)]


def test_job_that_no_worker_takes(calls, as_other_process, user, settings):
    """A job of an engine rings for its owner only."""
    settings.TASKS = {
        **settings.TASKS,
        "engine": {**settings.TASKS["default"], "OPTIONS": {"engine": "no.engine"}},
    }
    enqueue(user, backend="engine")
    wait_until(lambda: calls)
    assert calls == [({user.pk}, False)]


def enqueue_batch(user):
    with batch(owner=user):
        tasks.noop.enqueue()


def insert_own_job(user):
    row = new_row(Job, user_id=user.pk, executor="async", task_path="tests.jobs.tasks.noop")
    with transaction.atomic():
        task_backends["default"].insert_all([row])


@pytest.mark.parametrize("insert", [enqueue, enqueue_batch, insert_own_job])
def test_job_of_this_process(calls, user, insert):
    """The listener does not ring again for what this process has rung itself."""
    insert(user)
    wait_until_read()
    assert not calls


def test_job_of_this_process_that_is_read_at_its_commit(calls, user, monkeypatch):
    """Outside a transaction the listener may read the row before the INSERT returns."""
    insert_one = limits.insert_one

    def insert_and_wait(*args, **options):
        inserted = insert_one(*args, **options)
        wait_until_read()
        return inserted

    monkeypatch.setattr(limits, "insert_one", insert_and_wait)
    enqueue(user)
    assert not calls


@pytest.mark.parametrize("before", [0, 1, 2])
@pytest.mark.parametrize("limit", ["MAX_JOBS_WITHOUT_POSITION", "MAX_NEW_JOBS"])
def test_large_batch(as_other_process, user, set_limit, request, before, limit):
    """It rings its owner in an empty table, after another job, and after one that is deleted in the same commit."""
    set_limit(limit, 3)
    if before:
        enqueue()
    calls = request.getfixturevalue("calls")
    with transaction.atomic():
        if before == 2:
            Job.objects.all().delete()
        with batch(owner=user):
            for _ in range(4):
                tasks.noop.enqueue()
    wait_until(lambda: calls)
    assert calls == [({user.pk}, True)]


def test_first_jobs_of_an_empty_table(calls, as_other_process, user, set_limit):
    """All of them are new."""
    set_limit("MAX_JOBS_WITHOUT_POSITION", 1)
    with transaction.atomic():
        enqueue(user)
        enqueue()
    wait_until(lambda: calls)
    assert calls == [({user.pk}, True)]


def test_new_jobs_are_read_up_to_a_limit(calls, as_other_process, user, other_user, set_limit):
    """The newest ones."""
    set_limit("MAX_NEW_JOBS", 2)
    with transaction.atomic():
        for owner in (other_user, user, user):
            enqueue(owner)
    wait_until(lambda: calls)
    assert calls == [({user.pk}, True)]


@pytest.mark.parametrize("kept", [0, 1])
def test_rowid_that_is_used_again(calls, as_other_process, user, other_user, kept):
    """A new job with the rowid of a deleted one, or with a lower one, is read all the same."""
    rowids = [enqueue(user) for _ in range(4)]
    wait_until_read()
    calls.clear()
    with transaction.atomic():
        Job.objects.exclude(pk__in=Job.objects.order_by("pk")[: 3 * kept]).delete()
        assert enqueue(other_user) == (rowids[-1] if kept else 1)
    wait_until(lambda: any(other_user.pk in users for users, _ in calls))


def test_jobs_after_a_rowid_that_is_used_again(calls, as_other_process, user, other_user):
    """Those that follow it do not hide it."""
    enqueue(user)
    wait_until_read()
    with transaction.atomic():
        Job.objects.all().delete()
        enqueue(other_user)
        enqueue()
    wait_until(lambda: any(other_user.pk in users for users, _ in calls))


def test_old_jobs_are_not_read(as_other_process, user, other_user, set_limit, request):
    """Neither at the start of a listener, nor all of them where the newest job was deleted."""
    set_limit("MAX_JOBS_WITHOUT_POSITION", 1)
    for _ in range(3):
        enqueue(user)
    calls = request.getfixturevalue("calls")
    with transaction.atomic():
        Job.objects.filter(pk=Job.objects.latest("pk").pk).delete()
        enqueue(other_user)
    wait_until(lambda: calls)
    assert calls == [({other_user.pk}, True)]


def test_enqueueing_rings_other_processes(site):
    """A process that has enqueued and exits, outside a transaction or in one; not one that rolls back."""
    listener = ListenerProcess(site)
    enqueue = "from asyncsite.tasks import check_urls as task"
    ring(site, f"{enqueue}\ntask.using(owner=1).enqueue(0)")
    assert listener.wait_for_user(1)["queue"]
    ring(
        site,
        f"""
{enqueue}
try:
    with transaction.atomic():
        task.using(owner=2).enqueue(0)
        1 / 0
except ZeroDivisionError:
    with transaction.atomic():
        task.using(owner=3).enqueue(0)
""",
    )
    assert listener.wait_for_user(3)["queue"]
    assert listener.users == {1, 3}
