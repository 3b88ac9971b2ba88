"""Calls of tasks of Celery that are jobs."""

from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import pytest
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

celery = pytest.importorskip("celery", reason="Celery is not installed (pip install celery).")

from celery import chain, chord, group  # noqa: E402

from notifications.api import accepted, batch, get_job, requester  # noqa: E402
from notifications.exceptions import IdempotencyKeyConflict  # noqa: E402
from notifications.models import Job, Notification  # noqa: E402
from notifications.testing import clock, run_jobs  # noqa: E402
from tests.contrib.celery import job_tasks as tasks  # noqa: E402

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def forget_seen():
    tasks.seen.clear()
    yield
    clock.reset()


def only_job():
    return Job.objects.get()


def test_call_is_a_row_of_the_transaction(user):
    with pytest.raises(RuntimeError), transaction.atomic():
        tasks.export.delay(user.pk, 2026)
        raise RuntimeError
    assert not Job.objects.exists()
    result = tasks.export.delay(user.pk, 2026)
    job = only_job()
    assert (str(job.id), job.user_id, job.title, job.url) == (
        result.id,
        user.pk,
        "Export 2026",
        "/exports/a%20b/",
    )
    assert result.state == "PENDING"
    assert run_jobs() == 1
    assert tasks.seen == [(result.id, 0, {}, [user.pk, 2026], {})]
    assert (result.state, result.get(timeout=1), result.successful()) == ("SUCCESS", {"year": 2026}, True)
    assert Notification.objects.get(user=user).title == "Export 2026"


def test_decorated_task_takes_what_its_wrapper_takes(user):
    """As in Celery. Of one that takes anything, the function below has the names."""
    result = tasks.wrapped.delay(2, 3, factor=10)
    tasks.atomic.delay(user.pk, pk=4)
    run_jobs()
    assert result.get(timeout=1) == [20, 3]
    assert Notification.objects.get(user=user).title == "Save 4"
    for call in (lambda: tasks.wrapped.delay(), lambda: tasks.atomic.delay(user.pk)):
        with pytest.raises(TypeError, match="cannot be called with these arguments"):
            call()


def test_owner_of_the_context(user):
    with requester(user):
        tasks.add.delay(1, 2)
    assert only_job().user_id == user.pk


def test_owner_by_a_function(user):
    tasks.owned_by_function.delay(user.pk, other=1)
    assert only_job().user_id == user.pk


def test_options_of_a_policy():
    tasks.with_policy.delay("DE1")
    job = only_job()
    assert (job.title, job.concurrency_key, job.max_attempts) == ("With policy DE1", "one", 1)


@pytest.mark.parametrize("value", tasks.VALUES)
def test_arguments_as_kombu_encodes_them(value):
    result = tasks.echo.delay(value)
    run_jobs(raise_errors=True)
    assert tasks.seen == [value]
    assert result.get() == value


def test_title_has_what_was_passed():
    tasks.on.delay(tasks.VALUES[1])
    assert only_job().title == "On 2026-01-02"


def test_what_cannot_be_encoded_is_refused_by_name():
    with pytest.raises(TypeError, match=r"b of .*add is of type object, which is not JSON"):
        tasks.add.delay(1, b=object())


def test_wrong_arguments():
    with pytest.raises(TypeError, match=r"add\(a, b\) cannot be called with these arguments"):
        tasks.add.delay(1)


def test_times():
    now = timezone.now()
    tasks.add.apply_async((1, 2), countdown=60)
    tasks.add.apply_async((1, 2), eta=datetime(2040, 1, 2, 3, 4))  # Celery reads it as UTC
    tasks.add.apply_async((1, 2), eta="2040-01-02T05:04:00+02:00")
    first, *others = [job.run_after or job.due_at for job in Job.objects.order_by("id")]
    assert timedelta(seconds=59) < first - now < timedelta(seconds=61)
    assert others == [datetime(2040, 1, 2, hour, 4, tzinfo=UTC) for hour in (3, 3)]


def test_queue_and_priority():
    tasks.add.apply_async((1, 2), queue="mail", priority=7, routing_key="x", headers={"a": 1})
    tasks.add.apply_async((1, 2), queue=tasks.add.app.conf.task_default_queue)
    tasks.add.delay(1, 2)
    found = list(Job.objects.order_by("id").values_list("queue_name", "priority"))
    assert found == [("mail", 7), ("default", 0), ("default", 0)]


def test_signature_and_partial():
    tasks.add.s(1).delay(2)
    tasks.add.si(3, 4).apply_async()
    run_jobs()
    assert list(Job.objects.order_by("id").values_list("result", flat=True)) == ["3", "7"]


def test_delay_on_commit_is_a_row_of_the_transaction():
    with transaction.atomic():
        result = tasks.add.delay_on_commit(1, 2)
        assert get_job(result.id).state == "queued"
    tasks.add.apply_async_on_commit((1, 2), countdown=60)
    assert Job.objects.count() == 2


def test_given_id_stands_for_one_job(user):
    """It finds the job from any process, also a job with an owner."""
    id = str(uuid4())
    first = tasks.export.apply_async((user.pk, 2026), task_id=id)
    assert tasks.export.apply_async((user.pk, 2026), task_id=id).job_id == first.job_id
    job = only_job()
    assert (job.idempotency_key, first.id, first.job_id) == (id, id, job.id)
    with pytest.raises(IdempotencyKeyConflict):
        tasks.export.apply_async((user.pk, 2027), task_id=id)
    run_jobs()
    assert tasks.seen[0][0] == id
    assert tasks.export.AsyncResult(id).get() == {"year": 2026}


def test_job_of_an_id_is_found_by_an_index(user):
    """Whoever its owner is."""
    with CaptureQueriesContext(connection) as queries:
        assert tasks.add.AsyncResult("mine").job_id is None
    [query] = [query["sql"] for query in queries if "idempotency_key" in query["sql"]]
    with connection.cursor() as cursor:
        if connection.vendor == "postgresql":
            cursor.execute("SET LOCAL enable_seqscan = off")
        cursor.execute(f"EXPLAIN {'QUERY PLAN ' if connection.vendor == 'sqlite' else ''}{query}")
        assert "notifications_job_key_any" in str(cursor.fetchall())


def test_frozen_signature(user):
    signature = tasks.export.s(user.pk, 2026)
    frozen = signature.freeze()
    assert frozen.state == "PENDING"
    signature.apply_async()
    run_jobs()
    assert frozen.get(timeout=1) == {"year": 2026}


def test_result_of_a_uuid():
    """As job_id is one."""
    result = tasks.add.delay(1, 2)
    found = tasks.add.AsyncResult(result.job_id)
    assert (found, found.job_id, found.state) == (result, result.job_id, "PENDING")


def test_result_of_nothing():
    result = tasks.add.AsyncResult("no-such-id")
    assert (result.state, result.job_id, result.ready()) == ("PENDING", None, False)


def test_result_of_a_failure():
    result = tasks.fail.delay()
    run_jobs()
    assert (result.state, result.failed(), result.ready()) == ("FAILURE", True, True)
    with pytest.raises(Exception, match="stopped because of an error"):
        result.get()
    assert "stopped" in str(result.get(propagate=False))
    result.forget()


def test_revoke_cancels(transactional_db):
    result = tasks.add.delay(1, 2)
    result.revoke(terminate=True)
    assert result.state == "REVOKED"
    with pytest.raises(celery.exceptions.TaskRevokedError):
        result.get()
    assert run_jobs() == 0


def test_timeout_is_that_of_celery(transactional_db):
    result = tasks.add.delay(1, 2)
    with pytest.raises(celery.exceptions.TimeoutError):
        result.get(timeout=0)


def test_group_is_one_in_the_inbox(user):
    result = group(tasks.export.s(user.pk, year) for year in (1, 2, 3))()
    assert Job.objects.filter(inbox_group=result.id).count() == 3
    run_jobs()
    assert result.ready()
    assert result.get(timeout=1) == [{"year": year} for year in (1, 2, 3)]
    assert len(set(Notification.objects.values_list("group_key", flat=True))) == 1


def test_batch_takes_calls(user):
    with batch(owner=user) as made:
        tasks.add.delay(1, 2)
        tasks.add.delay(3, 4)
    run_jobs()
    assert get_job(made.result.id).result == {"succeeded": 2, "failed": 0, "cancelled": 0}


@pytest.mark.parametrize(
    ("option", "remedy"),
    [("link", "job.succeeded"), ("link_error", "job.failed"), ("time_limit", "time_limit of the task")],
)
def test_refused_options(option, remedy):
    with pytest.raises(TypeError, match=f"takes no {option}: use .*{remedy}"):
        tasks.add.apply_async((1, 2), **{option: tasks.add.si(1, 2) if "link" in option else 5})


def test_chains_in_groups_are_refused():
    with pytest.raises(TypeError, match="takes no chain"):
        group(chain(tasks.add.s(1, 2), tasks.add.s(3)), tasks.add.s(1, 2)).delay()
    assert not Job.objects.exists()


@pytest.mark.parametrize("kind", [chain, chord])
def test_chains_and_chords_are_refused(kind):
    with pytest.raises(TypeError, match=f"takes no {kind.__name__.strip('_')}: use"):
        if kind is chain:
            chain(tasks.add.s(1, 2), tasks.add.s(3)).delay()
        else:
            tasks.add.apply_async((1, 2), chord=tasks.echo.s())  # what Celery adds to each task of the header
    assert not Job.objects.exists()


def test_in_place(monkeypatch):
    """As in Celery, without a job."""
    assert tasks.add(1, 2) == 3
    assert tasks.add.apply((1, 2)).get() == 3
    assert tasks.count_down(2) == [2, 1, 0]
    assert tasks.retry_by_hand.apply((None, 2)).get() == 2
    monkeypatch.setitem(tasks.add.app.conf, "task_always_eager", True)
    assert tasks.add.delay(1, 2).get() == 3
    assert group(tasks.add.s(1, 2), tasks.add.s(3, 4))().get() == [3, 7]
    assert (tasks.add.s(1, 2) | tasks.add.s(3))().get() == 6
    assert not Job.objects.exists()


def test_task_with_a_method():
    tasks.add.app.register_task(tasks.Report())
    result = tasks.add.app.tasks["reports.build"].delay(2026)
    assert only_job().task_path == "tests.contrib.celery.job_tasks.Report"
    run_jobs()
    assert result.get() == 2026


def test_task_that_a_worker_would_not_find():
    app = celery.Celery("test", set_as_current=False)
    made = app.task(base=tasks.JobTask, shared=False)(tasks.add.run)
    assert made.delay(1, 2).id  # what stands there is a task

    @app.task(base=tasks.JobTask, shared=False)
    def local():
        """Not at the top level."""

    with pytest.raises(Exception, match=r"module level|top level"):
        local.delay()


def test_tasks_of_celery_and_of_the_app_stay_messages():
    """With task_cls the message that wakes a worker would be a job, without end."""
    app = celery.Celery("test", task_cls="notifications.contrib.celery:JobTask", set_as_current=False)

    @app.task(name="notifications.other", shared=False)
    def wake():
        """Wakes."""

    @app.task(name="mine", shared=False)
    def mine():
        """Is a job."""

    assert isinstance(mine._get_current_object(), tasks.JobTask)
    assert not isinstance(wake._get_current_object(), tasks.JobTask)
    assert not isinstance(app.tasks["celery.chord_unlock"], tasks.JobTask)
    assert not isinstance(app.tasks["notifications.enqueue_message"], tasks.JobTask)
    assert UUID(wake.s().freeze().id)


def test_view_that_accepts(user, rf):
    """The job of a call may be that of a request."""
    request = rf.post("/exports/")
    request.user = user
    response = accepted(request, lambda: tasks.add.apply_async((1, 2), task_id="mine"))
    assert (response.status_code, only_job().user_id) == (202, user.pk)


def test_job_that_expires(user):
    """From when it is enqueued, as in Celery, also with a countdown."""
    now = timezone.now()
    results = [
        tasks.export.apply_async((user.pk, 2026), countdown=30, expires=60),
        tasks.add.apply_async((1, 2), expires=datetime(2040, 1, 2, 3, 4)),
        tasks.expiring.delay(),
        tasks.export.apply_async((user.pk, 2027), expires=0),
    ]
    times = [Job.objects.get(id=result.id).expires_at for result in results]
    assert timedelta(seconds=59) < times[0] - now < timedelta(seconds=61)
    assert times[1] == datetime(2040, 1, 2, 3, 4, tzinfo=UTC)
    assert timedelta(seconds=89) < times[2] - now < timedelta(seconds=91)
    assert timedelta(seconds=-1) < times[3] - now < timedelta(seconds=1)
    clock.advance(100)
    assert run_jobs() == 1
    assert [result.state for result in results] == ["REVOKED", "SUCCESS", "REVOKED", "REVOKED"]
    assert get_job(results[0].id).error["type"] == "expired"
