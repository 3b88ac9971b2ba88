"""The reconciler fails queued jobs whose message neither a worker nor the broker has, and no others."""

import json
import uuid
from datetime import timedelta

import pytest

from notifications import times
from notifications.models import Job, Worker
from tests.contrib.celery.conftest import bell_of
from tests.contrib.celery.reconcilers import TASK, overdue, problem
from tests.support.waiting import wait_until

pytest.importorskip("celery.states", reason="Celery is not installed (pip install celery).")


@pytest.fixture
def all_answer(monkeypatch):
    """Every live worker answers that it does not have the task."""
    from notifications.contrib.celery import broker

    monkeypatch.setattr(broker, "find_in_workers", lambda app, ids, workers: (set(), 1))


def test_workers_that_are_slow_to_answer_are_asked_once_more(monkeypatch):
    """The first answer may be that of another project's worker, which has none of the tasks: the wait goes on."""
    from notifications.contrib.celery import broker

    waits = []

    def broadcast(app, command, arguments, *, reply, timeout):
        waits.append(timeout)
        answers = [{"other": {}}, {"own": {"lost": ["reserved", {}]}}]
        return answers if timeout > broker.INSPECT_TIMEOUT_SECONDS else answers[:1]

    monkeypatch.setattr(broker, "broadcast", broadcast)
    assert broker.find_in_workers(None, ["lost"], 1) == (set(), 1)
    assert broker.find_in_workers(None, ["lost"], 2) == ({"lost"}, 2)
    assert waits == [1.0, 1.0, 5.0]


@pytest.mark.usefixtures("all_answer")
@pytest.mark.parametrize(("attempt", "kind"), [(0, "never-started"), (1, "worker-lost")])
def test_a_lost_message(reconciler, make_job, user, attempt, kind):
    job = make_job(attempt=attempt)
    reconciler.run_round()
    assert problem(job) == ("queued", "")  # once may be bad luck
    Job.objects.update(**overdue())
    reconciler.run_round()
    assert problem(job) == ("failed", kind)
    assert len(bell_of(user)) == 1


def test_a_lost_message_while_a_worker_does_not_answer(reconciler, make_job, monkeypatch):
    """Nothing ends, and what was found before is kept: the workers are asked again soon."""
    from notifications.contrib.celery import broker

    monkeypatch.setattr(broker, "find_in_workers", lambda app, ids, workers: (set(), 0))
    since = times.now() - timedelta(seconds=9)
    job = make_job(missing_since=since)
    reconciler.run_round()
    assert problem(job) == ("queued", "")
    job.refresh_from_db()
    assert job.missing_since == since
    assert job.check_at < times.now() + timedelta(seconds=11)


@pytest.mark.usefixtures("all_answer")
def test_many_lost_messages(reconciler, reconcile, make_job, monkeypatch):
    """A broker that was flushed has lost more than one query looks for."""
    monkeypatch.setattr(reconcile, "MAX_JOBS_PER_ROUND", 2)
    jobs = [make_job(missing_since=times.now() - timedelta(seconds=9)) for _ in range(5)]
    reconciler.run_round()
    assert {problem(job) for job in jobs} == {("failed", "never-started")}


def test_a_backlog_is_not_looked_through_at_once(reconcile, reconciler, make_job, monkeypatch):
    """The main process, which hands out the tasks, would be busy with those that only wait."""
    from notifications.contrib.celery import broker

    monkeypatch.setattr(reconcile, "MAX_JOBS_PER_ROUND", 2)
    monkeypatch.setattr(broker, "find_messages", lambda app, queues: dict.fromkeys(queues, True))
    now = times.now()
    for _ in range(6):
        make_job()
    reconciler.run_round()
    assert Job.objects.filter(state="queued", check_at__gt=now).count() == 2


@pytest.mark.usefixtures("all_answer")
def test_a_message_in_its_queue(reconciler, celery_app, make_job):
    with celery_app.connection_for_read() as connection:
        job = make_job()
        connection.channel().client.lpush("celery", json.dumps({"headers": {"id": str(job.id)}}))
    before = times.now()
    reconciler.run_round()
    job.refresh_from_db()
    assert (job.state, job.missing_since) == ("queued", None)
    assert job.check_at > before + timedelta(seconds=20)
    Job.objects.update(check_at=times.now(), queued_at=times.now() - timedelta(days=2))
    reconciler.run_round()
    assert problem(job) == ("failed", "never-started")


@pytest.mark.usefixtures("all_answer")
def test_messages_that_redis_delivers_again_later(reconciler, celery_app, make_job):
    """Those that a lost worker has not acknowledged. Other unacknowledged messages say nothing about a job."""
    safe, lost = (make_job(missing_since=times.now() - timedelta(seconds=9)) for _ in range(2))
    with celery_app.connection_for_read() as connection:
        message = json.dumps([{"headers": {"id": str(safe.id)}}, "", "celery"])
        connection.channel().client.hset("unacked", "tag", message)
    reconciler.run_round()
    assert problem(safe) == ("queued", "")
    assert problem(lost) == ("failed", "never-started")


@pytest.mark.usefixtures("all_answer")
def test_message_in_a_long_queue_is_not_looked_for(reconciler, celery_app, make_job, monkeypatch):
    from notifications.contrib.celery import broker

    monkeypatch.setattr(broker, "MAX_READ_MESSAGES", 2)
    job = make_job(missing_since=times.now() - timedelta(seconds=9))
    with celery_app.connection_for_read() as connection:
        connection.channel().client.lpush("celery", *["{}"] * 3)
    reconciler.run_round()
    assert problem(job) == ("queued", "")


@pytest.mark.parametrize(
    ("url", "options", "seconds"),
    [
        ("redis://h/0", {}, 0),
        ("amqp://h//", {}, 240),
        ("amqp://h//", {"broker_heartbeat": 10}, 20),
        ("amqp://h//", {"broker_heartbeat": 0}, 1800),
        ("memory://", {"broker_transport_options": {"visibility_timeout": 600}}, 600),
    ],
)
def test_time_after_which_a_broker_has_delivered_again(url, options, seconds):
    from celery import Celery

    from notifications.contrib.celery import broker

    app = Celery("shop", broker=url, set_as_current=False)
    app.conf.update(options)
    assert broker.redelivery_seconds(app) == seconds


@pytest.mark.usefixtures("all_answer")
def test_message_that_a_lost_worker_may_have(reconciler, make_job, live_worker, monkeypatch):
    """RabbitMQ does not say who has received it. The worker may be suspended, and go on with it."""
    from notifications.contrib.celery import broker

    monkeypatch.setattr(broker, "redelivery_seconds", lambda app: 60.0)
    before = make_job(missing_since=times.now() - timedelta(seconds=9))
    reconciler.run_round()  # this process began after the job was queued
    assert problem(before) == ("queued", "")
    lost = Worker.objects.filter(id=live_worker(queues="celery:celery"))
    reconciler.run_round()
    now = times.now()
    lost.update(lease_until=now + timedelta(seconds=0.5))
    received, later = make_job(queued_at=now), make_job(queued_at=now + timedelta(seconds=2))
    reconciler.run_round()
    wait_until(lambda: times.now() > now + timedelta(seconds=0.5), what="the end of the lease")
    lost.delete()
    Job.objects.update(**overdue())
    reconciler.run_round()
    assert problem(received) == ("queued", "")
    assert problem(later) == ("failed", "never-started")
    monkeypatch.setattr(broker, "redelivery_seconds", lambda app: 0.0)
    Job.objects.filter(state="queued").update(**overdue())
    reconciler.run_round()
    assert {problem(before), problem(received)} == {("failed", "never-started")}


@pytest.mark.usefixtures("all_answer")
@pytest.mark.parametrize("state", ["queued", "running"])
def test_job_of_another_broker_is_left_to_its_workers(reconciler, make_job, live_worker, state, monkeypatch):
    from notifications.contrib.celery import seen_workers

    worker = Worker.objects.filter(id=live_worker(queues="celery:celery"))
    worker.update(broker="amqp://elsewhere:5672//")
    job = make_job(
        state=state,
        missing_since=times.now() - timedelta(seconds=9),
        broker="amqp://elsewhere:5672//",
    )
    reconciler.run_round()
    worker.delete()  # it may be suspended
    reconciler.run_round()
    assert problem(job) == (state, "")
    monkeypatch.setattr(seen_workers, "OTHER_BROKER_SECONDS", 0.0)
    reconciler.run_round()
    assert problem(job)[0] == "failed"


def test_a_worker_that_does_not_answer_may_have_it(reconciler, make_job):
    job = make_job(missing_since=times.now() - timedelta(seconds=60))
    reconciler.run_round()
    assert problem(job) == ("queued", "")


def test_an_expired_message(reconciler, make_job, user):
    job = make_job(expires_at=times.now() - timedelta(seconds=30))
    reconciler.run_round()
    assert problem(job) == ("failed", "expired")
    assert len(bell_of(user)) == 1


@pytest.mark.parametrize(
    ("key", "pattern", "is_routed"),
    [
        ("media.video", "media.video", True),
        ("media.video", "media.*", True),
        ("media.video.big", "media.*", False),
        ("media.video.big", "media.#", True),
        ("other", "media.#", False),
    ],
)
def test_queues_of_a_topic_exchange(key, pattern, is_routed):
    from notifications.contrib.celery.broker import _is_routed

    assert _is_routed(key.split("."), pattern.split(".")) == is_routed


def test_message_in_an_unknown_queue_is_not_lost(reconciler, reconcile, make_job, monkeypatch):
    """A routing key need not be the name of a queue."""
    monkeypatch.setattr(reconcile, "LOST_SECONDS", 0)
    job = make_job(queue_name="media.video")
    for _ in range(2):
        reconciler.run_round()
        Job.objects.filter(id=job.id).update(check_at=times.now())
    job.refresh_from_db()
    assert job.state == "queued"


def test_message_with_an_expiry_is_looked_for_as_soon_as_others(celery_app):
    from notifications.contrib.celery.messages import FIRST_CHECK_SECONDS, Message, build_job
    from notifications.jobs.declaring.observations import Observation

    expires = times.now() + timedelta(hours=6)
    message = Message(id=str(uuid.uuid4()), name=TASK, args=(1, 2026), kwargs={}, expires=expires)
    job = build_job(celery_app, message, Observation())
    assert (job.check_at - job.created_at, job.expires_at) == (
        timedelta(seconds=FIRST_CHECK_SECONDS),
        expires,
    )
