"""The reconciler ends jobs of which no signal came, by what the result backend, workers and the broker know."""

import json
import threading
import time
import uuid
from datetime import timedelta

import pytest

from notifications import times
from notifications.jobs.declaring.policies import Policy
from notifications.jobs.worker.lease import Lease
from notifications.models import Attempt, Job, Notification, Worker
from tests.contrib.celery.conftest import bell_of
from tests.support.network import Listener
from tests.support.waiting import wait_until

states = pytest.importorskip("celery.states", reason="Celery is not installed (pip install celery).")

TASK = "tests.contrib.celery.tasks.export"


@pytest.fixture
def reconcile():
    from notifications.contrib.celery import reconcile

    return reconcile


@pytest.fixture
def lease(transactional_db, monkeypatch):
    """The lease of a worker, which may end the jobs of others."""
    lease = Lease(queues=["celery:celery"], concurrency=0, load=lambda: 0)
    lease._insert_row()
    monkeypatch.setattr(lease, "may_reap", lambda: True)
    yield lease
    lease.stop()


@pytest.fixture
def reconciler(reconcile, lease, celery_app, broker):
    """A reconciler in this process, where no task runs. No worker of Celery is alive, and the broker is empty."""
    with celery_app.connection_for_read() as connection:
        connection.channel().client.flushall()
    return reconcile.Reconciler(celery_app, "nobody@nowhere", lease)


@pytest.fixture
def make_job(user):
    """make_job(**fields) inserts the job of an observed task."""

    def make(**fields):
        now = times.now()
        values = {
            "id": uuid.uuid4(),
            "user_id": user.pk,
            "task_path": TASK,
            "title": "Export",
            "lane": "observed",
            "queue_name": "celery",
            "state": "queued",
            "created_at": now,
            "queued_at": now,
            "deadline": now - timedelta(seconds=1),
            **fields,
        }
        if values["state"] == "running":
            values = {
                "attempt": 1,
                "fence": 1,
                "started_at": now,
                "worker": uuid.uuid4(),
                **values,
                "deadline": None,
            }
        return Job.objects.create(**values)

    return make


def problem(job):
    job.refresh_from_db()
    return job.state, (job.error or "").partition('"type": "')[2].partition('"')[0]


@pytest.mark.parametrize(
    ("state", "value", "expected"),
    [
        (states.SUCCESS, {"rows": 3}, ("succeeded", "")),
        (states.FAILURE, ValueError("x"), ("failed", "task-failed")),
        (states.REVOKED, None, ("cancelled", "cancelled")),
    ],
)
@pytest.mark.parametrize("job_state", ["queued", "running"])
def test_the_result_backend_knows_the_end(
    reconciler, celery_app, make_job, user, state, value, expected, job_state
):
    job = make_job(state=job_state)
    if state == states.REVOKED:
        celery_app.backend.mark_as_revoked(str(job.id), "revoked")
    else:
        celery_app.backend.store_result(str(job.id), value, state)
    reconciler.run_round()
    assert problem(job) == expected
    assert len(bell_of(user)) == 1
    if state == states.SUCCESS:
        assert job.result == '{"rows":3}'


def test_a_task_of_a_lost_worker_fails(reconciler, make_job, user):
    job = make_job(state="running")
    reconciler.run_round()
    assert problem(job) == ("failed", "worker-lost")
    assert len(bell_of(user)) == 1
    assert Attempt.objects.get(job=job).outcome == "lost"


def test_guess_that_the_result_backend_corrects_later(
    reconciler, reconcile, celery_app, make_job, user, monkeypatch
):
    """A worker was suspended, went on, and was killed between the end of its task and the record of that."""
    monkeypatch.setattr(reconcile, "GUESS_RECHECK_SECONDS", (0.0, 0.0, 60.0))
    job = make_job(state="running")
    for _ in range(2):
        reconciler.run_round()
        assert problem(job) == ("failed", "worker-lost")
    celery_app.backend.store_result(str(job.id), 3, states.SUCCESS)
    reconciler.run_round()
    assert problem(job) == ("failed", "worker-lost")  # the next time comes after a minute
    monkeypatch.setattr(reconcile, "GUESS_RECHECK_SECONDS", (0.0, 0.0, 0.0))
    reconciler.run_round()
    assert problem(job) == ("succeeded", "")
    assert [level for *_, level in bell_of(user)] == ["error", "success"]
    assert reconciler._guesses == {}


def test_notify_functions_are_called_at_once(reconciler, reconcile, make_job, user, monkeypatch):
    """Not one after another: each may take seconds."""
    barrier = threading.Barrier(2)
    policy = Policy(notify=lambda job: {"title": f"Call {barrier.wait(3)}"})
    monkeypatch.setattr(reconcile, "policy_of", lambda observation: policy)
    for state in ("running", "queued"):
        for _ in range(2):
            job = make_job(state=state)
            if state == "queued":
                reconciler._app.backend.store_result(str(job.id), 3, states.SUCCESS)
    reconciler.run_round()
    assert sorted(title for title, *_ in bell_of(user)) == ["Call 0", "Call 0", "Call 1", "Call 1"]


def test_few_guesses_are_remembered(reconciler, reconcile, make_job, monkeypatch):
    monkeypatch.setattr(reconcile, "MAX_GUESSES", 2)
    for _ in range(3):
        make_job(state="running")
    reconciler.run_round()
    assert len(reconciler._guesses) == 2


def test_a_cancelled_task_of_a_lost_worker_is_cancelled(reconciler, make_job, user):
    job = make_job(state="running", cancel_requested_at=times.now())
    reconciler.run_round()
    assert problem(job) == ("cancelled", "cancelled")
    assert bell_of(user) == []


def test_a_task_that_is_delivered_again_waits_for_that(reconciler, make_job, user):
    job = make_job(state="running", task_path="tests.contrib.celery.tasks.hold_late")
    reconciler.run_round()
    assert problem(job) == ("queued", "")
    assert job.deadline > times.now()
    assert Attempt.objects.get(job=job).outcome == "lost"
    assert bell_of(user) == []


def test_a_task_of_a_live_worker_is_left_alone(reconciler, make_job, live_worker):
    job = make_job(state="running", worker=live_worker())
    reconciler.run_round()
    assert problem(job) == ("running", "")


def test_nothing_is_taken_from_others_while_the_lease_is_in_doubt(reconciler, lease, make_job, monkeypatch):
    monkeypatch.setattr(lease, "may_reap", lambda: False)
    job = make_job(state="running")
    reconciler.run_round()
    assert problem(job) == ("running", "")


def test_a_task_that_its_own_worker_no_longer_has(reconciler, reconcile, lease, make_job, monkeypatch):
    job = make_job(state="running", worker=lease.worker)
    reconciler.run_round()
    assert problem(job) == ("running", "")  # its process may still be recording the end
    monkeypatch.setattr(reconcile, "MISSING_SECONDS", 0)
    time.sleep(0.01)
    reconciler.run_round()
    assert problem(job) == ("failed", "outcome-unknown")


def test_a_task_that_its_own_worker_has(reconciler, reconcile, lease, make_job, monkeypatch):
    job = make_job(state="running", worker=lease.worker)
    monkeypatch.setattr(reconcile, "MISSING_SECONDS", 0)
    monkeypatch.setitem(reconcile.worker_state.requests, str(job.id), object())
    for _ in range(2):
        reconciler.run_round()
    assert problem(job) == ("running", "")


@pytest.fixture
def all_answer(monkeypatch):
    """Every live worker answers that it does not have the task."""
    from notifications.contrib.celery import broker

    monkeypatch.setattr(broker, "find_in_workers", lambda app, ids, workers: (set(), 1))


@pytest.mark.usefixtures("all_answer")
@pytest.mark.parametrize(("attempt", "kind"), [(0, "never-started"), (1, "worker-lost")])
def test_a_lost_message(reconciler, make_job, user, attempt, kind):
    job = make_job(attempt=attempt)
    reconciler.run_round()
    assert problem(job) == ("queued", "")  # once may be bad luck
    Job.objects.update(deadline=times.now(), hand_over_at=times.now() - timedelta(seconds=9))
    reconciler.run_round()
    assert problem(job) == ("failed", kind)
    assert len(bell_of(user)) == 1


def test_a_lost_message_while_a_worker_does_not_answer(reconciler, make_job, monkeypatch):
    """Nothing ends, and what was found before is kept: the workers are asked again soon."""
    from notifications.contrib.celery import broker

    monkeypatch.setattr(broker, "find_in_workers", lambda app, ids, workers: (set(), 0))
    since = times.now() - timedelta(seconds=9)
    job = make_job(hand_over_at=since)
    reconciler.run_round()
    assert problem(job) == ("queued", "")
    job.refresh_from_db()
    assert job.hand_over_at == since
    assert job.deadline < times.now() + timedelta(seconds=11)


@pytest.mark.usefixtures("all_answer")
def test_many_lost_messages(reconciler, reconcile, make_job, monkeypatch):
    """A broker that was flushed has lost more than one query looks for."""
    monkeypatch.setattr(reconcile, "MAX_JOBS_PER_ROUND", 2)
    jobs = [make_job(hand_over_at=times.now() - timedelta(seconds=9)) for _ in range(5)]
    reconciler.run_round()
    assert {problem(job) for job in jobs} == {("failed", "never-started")}


@pytest.mark.usefixtures("all_answer")
def test_a_message_in_its_queue(reconciler, celery_app, make_job):
    with celery_app.connection_for_read() as connection:
        job = make_job()
        connection.channel().client.lpush("celery", json.dumps({"headers": {"id": str(job.id)}}))
    reconciler.run_round()
    job.refresh_from_db()
    assert (job.state, job.hand_over_at) == ("queued", None)
    assert job.deadline > times.now() + timedelta(seconds=20)
    Job.objects.update(deadline=times.now(), queued_at=times.now() - timedelta(days=2))
    reconciler.run_round()
    assert problem(job) == ("failed", "never-started")


@pytest.mark.usefixtures("all_answer")
def test_messages_that_redis_delivers_again_later(reconciler, celery_app, make_job):
    """Those that a lost worker has not acknowledged. Other unacknowledged messages say nothing about a job."""
    safe, lost = (make_job(hand_over_at=times.now() - timedelta(seconds=9)) for _ in range(2))
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
    job = make_job(hand_over_at=times.now() - timedelta(seconds=9))
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
    missing_since = times.now() - timedelta(seconds=9)
    before = make_job(hand_over_at=missing_since)
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
    Job.objects.update(deadline=now, hand_over_at=missing_since)
    reconciler.run_round()
    assert problem(received) == ("queued", "")
    assert problem(later) == ("failed", "never-started")
    monkeypatch.setattr(broker, "redelivery_seconds", lambda app: 0.0)
    Job.objects.filter(state="queued").update(deadline=now, hand_over_at=missing_since)
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
        idempotency_hash="amqp://elsewhere:5672//",
        hand_over_at=times.now() - timedelta(seconds=9),
    )
    reconciler.run_round()
    worker.delete()  # it may be suspended
    reconciler.run_round()
    assert problem(job) == (state, "")
    monkeypatch.setattr(seen_workers, "OTHER_BROKER_SECONDS", 0.0)
    reconciler.run_round()
    assert problem(job)[0] == "failed"


def test_a_worker_that_does_not_answer_may_have_it(reconciler, make_job):
    job = make_job(hand_over_at=times.now() - timedelta(seconds=60))
    reconciler.run_round()
    assert problem(job) == ("queued", "")


def test_an_expired_message(reconciler, make_job, user):
    job = make_job(idempotency_expires_at=times.now() - timedelta(seconds=30))
    reconciler.run_round()
    assert problem(job) == ("failed", "expired")
    assert len(bell_of(user)) == 1


def test_a_broker_that_is_away_ends_nothing(reconciler, make_job, monkeypatch, caplog):
    from notifications.contrib.celery import broker

    def away(*args):
        raise OSError("connection refused")

    monkeypatch.setattr(broker, "find_in_workers", away)
    job = make_job(hand_over_at=times.now() - timedelta(days=1))
    reconciler.run_round()
    assert problem(job) == ("queued", "")
    assert "Could not reconcile observed tasks" in caplog.text


def test_two_processes_do_not_look_for_the_same_job(make_job, reconciler):
    from notifications.jobs.transitions import observed

    make_job()
    now = times.now()
    assert len(observed.take_overdue(now, now + timedelta(seconds=60), 10)) == 1
    assert observed.take_overdue(now, now + timedelta(seconds=60), 10) == []


@pytest.mark.parametrize("error", [ValueError("The result cannot be decoded."), FileNotFoundError("result")])
def test_result_that_cannot_be_read_stops_no_other_job(reconciler, make_job, monkeypatch, error):
    """Neither of a lost worker nor of a lost message."""
    from notifications.contrib.celery import broker

    def read_meta(app, id):
        if id == str(unreadable.id):
            raise error

    unreadable = make_job(state="running", worker=uuid.UUID(int=1))
    lost = make_job(state="running", worker=uuid.UUID(int=2))
    monkeypatch.setattr(broker, "read_meta", read_meta)
    reconciler.run_round()
    lost.refresh_from_db()
    assert lost.state == "failed"


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
        Job.objects.filter(id=job.id).update(deadline=times.now() - timedelta(seconds=1))
    job.refresh_from_db()
    assert job.state == "queued"


class SilentServer(Listener):
    """Accepts connections and never answers."""

    def __init__(self):
        self.connected = threading.Event()
        self.connections = []
        super().__init__()

    def serve(self, connection):
        self.connections.append(connection)
        self.connected.set()


@pytest.fixture
def silent_app(celery_app, monkeypatch):
    """An app whose broker and result backend do not answer."""
    import celery

    with SilentServer() as server:
        url = f"redis://{server.address}/0"
        app = celery.Celery("silent", broker=url, backend=url, set_as_current=False)
        app.server = server
        yield app
        for connection in server.connections:
            connection.close()


@pytest.mark.parametrize("state", ["queued", "running"])
def test_broker_that_does_not_answer_is_given_up(
    silent_app, reconcile, lease, make_job, monkeypatch, caplog, state
):
    """It ends no job, and a round asks it once, not once for each job."""
    monkeypatch.setattr(reconcile, "NO_ANSWER_SECONDS", 0.5)
    jobs = [make_job(state=state) for _ in range(3)]
    reconciler = reconcile.Reconciler(silent_app, "nobody@nowhere", lease)
    reconciler.run_round()
    assert {problem(job) for job in jobs} == {(state, "")}
    assert caplog.text.count("no answer within 0.5 s") == 1
    assert silent_app.server.connected.wait(60)


@pytest.mark.usefixtures("transactional_db")
def test_broker_that_does_not_answer_delays_no_maintenance(silent_app, make_job, user, monkeypatch):
    """The main process numbers notifications, and takes jobs from lost workers, while it waits for the broker."""
    from notifications.contrib.celery import main_process

    monkeypatch.setattr(main_process, "ROUND_INTERVAL_SECONDS", 0.05)
    monkeypatch.setattr(main_process, "ROUND_JITTER_SECONDS", 0.0)
    make_job()
    process = main_process.MainProcess(silent_app, "nobody@nowhere", ["celery"])
    process.start()
    try:
        assert silent_app.server.connected.wait(60)
        inbox_row = Notification.objects.create(
            user=user, title="Unnumbered", created_at=times.now(), raised=1
        )
        wait_until(lambda: Notification.objects.get(id=inbox_row.id).seq, what="a number")
    finally:
        process.stop()


def test_broadcast_uses_no_connection_of_celerys_pool(celery_app, monkeypatch):
    """Those wait for ever."""
    from notifications.contrib.celery import connections

    def acquire(*args, **kwargs):
        raise AssertionError("A connection of the pool was used.")

    monkeypatch.setattr(type(celery_app.amqp.producer_pool), "acquire", acquire)
    monkeypatch.setattr(type(celery_app.pool), "acquire", acquire)
    assert connections.broadcast(celery_app, "query_task", {"ids": ["x"]}, reply=True, timeout=0.1) == []


def test_message_with_an_expiry_is_looked_for_as_soon_as_others(celery_app):
    from notifications.contrib.celery.messages import FIRST_CHECK_SECONDS, Message, build_job
    from notifications.jobs.declaring.observations import Observation

    expires = times.now() + timedelta(hours=6)
    message = Message(id=str(uuid.uuid4()), name=TASK, args=(1, 2026), kwargs={}, expires=expires)
    job = build_job(celery_app, message, Observation())
    assert (job.deadline - job.created_at, job.idempotency_expires_at) == (
        timedelta(seconds=FIRST_CHECK_SECONDS),
        expires,
    )
