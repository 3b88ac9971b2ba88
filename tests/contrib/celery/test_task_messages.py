"""Messages by the names of Celery's tasks whose calls are jobs."""

from datetime import timedelta
from uuid import uuid4

import pytest
from django.db import OperationalError, connections
from django.utils import timezone

celery = pytest.importorskip("celery", reason="Celery is not installed (pip install celery).")

from celery.contrib.testing.worker import start_worker  # noqa: E402
from kombu.transport.memory import Transport  # noqa: E402

from notifications.contrib.celery import JobTask  # noqa: E402
from notifications.exceptions import TooManyJobs  # noqa: E402
from notifications.models import Job  # noqa: E402
from notifications.testing import run_jobs  # noqa: E402
from tests.contrib.celery import job_tasks as tasks  # noqa: E402
from tests.contrib.celery.conftest import fail_at_first  # noqa: E402
from tests.support.waiting import wait_until  # noqa: E402

NAME = "tests.contrib.celery.job_tasks"


@pytest.fixture
def worker(app, transactional_db, monkeypatch):
    """A worker of Celery on a thread, with the pool "solo"."""
    # It looks every 0.02 s for a message, and every 0.05 s whether it shall end: else in two of its cycles of 2 s.
    monkeypatch.setitem(app.conf, "broker_transport_options", {"polling_interval": 0.02})
    drain = Transport.drain_events
    monkeypatch.setattr(Transport, "drain_events", lambda *args, timeout: drain(*args, timeout=0.05))
    with start_worker(app, perform_ping_check=False, pool="solo", shutdown_timeout=30) as worker:
        yield worker
    connections.close_all()


def until_jobs(count):
    return wait_until(
        lambda: len(jobs := list(Job.objects.order_by("id"))) >= count and jobs, what=f"{count} jobs"
    )


def until_read(app):
    """Wait until a message that was sent now has become a job, so that those before it were read."""
    id = str(uuid4())
    app.send_task(f"{NAME}.echo", ("last",), task_id=id)
    wait_until(lambda: Job.objects.filter(idempotency_key=id).exists(), what="the last message to be read")
    Job.objects.filter(idempotency_key=id).delete()


def test_message_becomes_a_job(app, worker, user):
    sent = app.send_task(f"{NAME}.export", (user.pk,), {"year": tasks.VALUES[1]})
    (job,) = until_jobs(1)
    assert (job.idempotency_key, job.user_id, job.title) == (sent.id, user.pk, "Export 2026-01-02")
    assert tasks.seen == []
    run_jobs()
    assert tasks.seen == [(sent.id, 0, {}, [user.pk], {"year": tasks.VALUES[1]})]
    assert tasks.export.AsyncResult(sent.id).get() == {"year": tasks.VALUES[1]}


def test_message_that_is_delivered_twice(app, worker):
    id = str(uuid4())
    for _ in range(3):
        app.send_task(f"{NAME}.add", (1, 2), task_id=id)
    until_jobs(1)
    until_read(app)
    assert Job.objects.count() == 1


def test_message_of_another_call_with_the_same_id(app, worker, caplog):
    id = str(uuid4())
    for number in (1, 2):
        app.send_task(f"{NAME}.add", (number, 2), task_id=id)
    until_jobs(1)
    until_read(app)
    assert Job.objects.count() == 1
    assert "Dropped a message of task" in caplog.text


def test_time_of_a_message_is_that_of_the_job(app, worker):
    """The worker does not keep the message until then."""
    app.send_task(f"{NAME}.add", (1, 2), countdown=3600)
    (job,) = until_jobs(1)
    due_at = job.run_after or job.due_at
    assert timedelta(minutes=59) < due_at - timezone.now() < timedelta(minutes=61)


def test_message_that_expires_is_a_job_that_expires(app, worker):
    """From when it was sent, as in Celery. The worker does not drop one that has expired: its owner is notified."""
    now = timezone.now()
    app.send_task(f"{NAME}.add", (1, 2), expires=3600)
    app.send_task(f"{NAME}.add", (3, 4), countdown=1800, expires=3600)
    app.send_task(f"{NAME}.add", (5, 6), expires=now - timedelta(hours=1))
    app.send_task(f"{NAME}.expiring")  # the message says nothing, its task does
    left = [job.expires_at - now for job in until_jobs(4)]
    assert [round(seconds.total_seconds() / 60) for seconds in left[:3]] == [60, 60, -60]
    assert timedelta(seconds=80) < left[3] < timedelta(seconds=150)
    assert run_jobs() == 2
    assert {job.error and "expired" in job.error for job in Job.objects.filter(args="[5,6]")} == {True}


def test_group_of_messages_is_one_in_the_inbox(app, worker):
    app.send_task(f"{NAME}.add", (1, 2), group_id="mine")
    (job,) = until_jobs(1)
    assert job.inbox_group == "mine"


def test_message_of_protocol_1(app, worker, monkeypatch):
    monkeypatch.setattr(app.amqp, "task_protocols", {**app.amqp.task_protocols})
    with app.producer_pool.acquire() as producer:
        message = app.amqp.as_task_v1(str(uuid4()), f"{NAME}.add", (1, 2), {}, countdown=3600)
        app.amqp.send_task_message(producer, f"{NAME}.add", message)
    (job,) = until_jobs(1)
    assert job.args == "[1,2]"
    assert job.run_after or job.due_at


def test_message_of_a_chain_goes_on_in_celery(app, worker):
    """Or what follows would be lost. The last task has none that follows, and is a job."""
    chain = [tasks.echo.s(), tasks.add.s(4)]  # the last one is the next
    app.send_task(f"{NAME}.add", (1, 2), chain=chain)
    (job,) = until_jobs(1)
    assert (job.task_path, job.args) == (f"{NAME}.echo", "[7]")


def test_message_with_a_link_goes_on_in_celery(app, worker):
    app.send_task(f"{NAME}.add", (1, 2), link=tasks.echo.s())
    (job,) = until_jobs(1)
    assert (job.task_path, job.args) == (f"{NAME}.echo", "[3]")


@pytest.mark.parametrize(
    "options",
    [
        lambda: {"chain": [tasks.add.s(4).set(link=tasks.echo.s())]},
        lambda: {"link": tasks.add.s(4).set(link=tasks.echo.s(), time_limit=9)},
        lambda: {"link": tasks.add.s(4) | tasks.echo.s()},
    ],
    ids=["chain", "link", "link of a chain"],
)
def test_message_whose_last_task_is_linked(app, worker, options):
    """Celery goes on by messages as long as another task follows."""
    app.send_task(f"{NAME}.add", (1, 2), **options())
    (job,) = until_jobs(1)
    assert (job.task_path, job.args) == (f"{NAME}.echo", "[7]")


def test_limit_of_what_follows_has_no_effect(app, worker):
    """As that of a message."""
    app.send_task(f"{NAME}.plain", (1,), link=tasks.echo.si(5).set(time_limit=9))
    assert until_jobs(1)[0].args == "[5]"


@pytest.mark.parametrize(
    "error", [OperationalError("the database is away"), TooManyJobs(1)], ids=["away", "full"]
)
def test_what_follows_and_cannot_be_a_job_now_is_a_message(app, worker, monkeypatch, error):
    """It would be lost: Celery does not call a task again whose last act fails."""
    left = fail_at_first(monkeypatch, error, times=2)
    app.send_task(f"{NAME}.plain", (1,), link=tasks.echo.si(5))
    assert wait_until(lambda: Job.objects.first(), timeout=15, what="the job").args == "[5]"
    assert left == []


def test_retry_of_a_message_in_a_chain(app, worker, user):
    """It is retried by Celery, as it was begun."""
    app.send_task(f"{NAME}.retry_by_hand", (user.pk, 2), chain=[tasks.echo.s()])
    (job,) = until_jobs(1)
    assert (tasks.seen, job.args) == ([0, 1, 2], "[2]")


@pytest.mark.parametrize(
    "error", [OperationalError("the database is away"), TooManyJobs(1)], ids=["away", "full"]
)
def test_message_is_put_back(app, worker, monkeypatch, error, caplog):
    left = fail_at_first(monkeypatch, error, times=3)
    app.send_task(f"{NAME}.add", (1, 2))
    until_jobs(1)
    assert left == []
    assert caplog.text.count("Put back a message of task") == 3


def test_message_that_is_put_back_stays_what_it_was(app, worker, monkeypatch):
    """And others are read meanwhile: it goes to the end of its queue."""
    seen, enqueue_job = [], JobTask.enqueue_job

    def refuse_first(task, args, kwargs, task_id, options):
        seen.append(args[0])
        if args[0] == "first" and "second" not in seen:
            raise TooManyJobs(1)
        return enqueue_job(task, args, kwargs, task_id, options)

    monkeypatch.setattr(JobTask, "enqueue_job", refuse_first)
    options = {"group_id": "mine", "countdown": 1800, "expires": 3600, "priority": 3}
    sent = app.send_task(f"{NAME}.echo", ("first",), **options)
    app.send_task(f"{NAME}.echo", ("second",))
    jobs = {job.args: job for job in until_jobs(2)}
    assert seen.index("second") < len(seen) - 1 - seen[::-1].index("first")
    job, now = jobs['["first"]'], timezone.now()
    assert (job.idempotency_key, job.inbox_group) == (sent.id, "mine")
    assert timedelta(minutes=29) < job.run_after - now < timedelta(minutes=31)
    assert timedelta(minutes=59) < job.expires_at - now < timedelta(minutes=61)


def test_message_whose_copy_cannot_be_sent(app, worker, monkeypatch, caplog):
    """The broker puts it back."""
    fail_at_first(monkeypatch, TooManyJobs(1), times=1)
    monkeypatch.setitem(app.conf, "broker_write_url", "amqp://127.0.0.1:1//")
    with app.connection_for_read() as connection:
        app.send_task(f"{NAME}.add", (1, 2), connection=connection)
    until_jobs(1)
    assert "Could not send a copy of a message" in caplog.text


def test_wrong_message_is_not_delivered_for_ever(app, worker, caplog):
    app.send_task(f"{NAME}.add", (1,))
    until_read(app)
    assert not Job.objects.exists()
    assert "cannot be called with these arguments" in caplog.text


def test_plain_tasks_are_not_changed(app, worker):
    app.send_task(f"{NAME}.plain", (1,))
    until_read(app)
    assert not Job.objects.exists()
