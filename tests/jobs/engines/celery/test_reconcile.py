"""The reconciler ends jobs of which no signal came, by what the result backend, workers and the broker know."""

import threading
import time
import uuid
from datetime import timedelta

import pytest

from notifications import times
from notifications.jobs.worker.lease import Lease
from notifications.models import Attempt, Job, Notification
from tests.jobs.engines.celery.conftest import bell_of
from tests.support.network import Listener
from tests.support.waiting import wait_until

states = pytest.importorskip("celery.states", reason="Celery is not installed (pip install celery).")

TASK = "tests.jobs.engines.celery.tasks.export"


@pytest.fixture
def reconcile():
    from notifications.jobs.engines.celery import reconcile

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


def test_a_cancelled_task_of_a_lost_worker_is_cancelled(reconciler, make_job, user):
    job = make_job(state="running", cancel_requested_at=times.now())
    reconciler.run_round()
    assert problem(job) == ("cancelled", "cancelled")
    assert bell_of(user) == []


def test_a_task_that_is_delivered_again_waits_for_that(reconciler, make_job, user):
    job = make_job(state="running", task_path="tests.jobs.engines.celery.tasks.hold_late")
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
    from notifications.jobs.engines.celery import broker

    monkeypatch.setattr(broker, "find_in_workers", lambda app, ids: (set(), 1))


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


@pytest.mark.usefixtures("all_answer")
def test_a_message_in_its_queue(reconciler, celery_app, make_job):
    with celery_app.connection_for_read() as connection:
        connection.channel().client.lpush("celery", "{}")
    job = make_job()
    reconciler.run_round()
    job.refresh_from_db()
    assert (job.state, job.hand_over_at) == ("queued", None)
    assert job.deadline > times.now() + timedelta(seconds=20)
    Job.objects.update(deadline=times.now(), queued_at=times.now() - timedelta(days=2))
    reconciler.run_round()
    assert problem(job) == ("failed", "never-started")


@pytest.mark.usefixtures("all_answer")
def test_messages_that_redis_delivers_again_later(reconciler, reconcile, celery_app, make_job):
    from notifications.jobs.engines.celery import broker

    with celery_app.connection_for_read() as connection:
        connection.channel().client.hset("unacked", "tag", "{}")
    seconds = broker.redelivery_seconds(celery_app) + reconcile.REDELIVERY_MARGIN_SECONDS
    job = make_job(hand_over_at=times.now() - timedelta(seconds=seconds - 5))
    reconciler.run_round()
    assert problem(job) == ("queued", "")
    Job.objects.update(deadline=times.now(), hand_over_at=times.now() - timedelta(seconds=seconds + 1))
    reconciler.run_round()
    assert problem(job) == ("failed", "never-started")


@pytest.mark.parametrize(
    ("options", "seconds"),
    [
        (None, 3700),
        ({"visibility_timeout": 600}, 700),
        ({"visibility_timeout": 5, "unacked_restore_interval": 2, "unacked_restore_throttle": 3}, 11),
        ({"visibility_timeout": 5, "unacked_restore_interval": 2, "unacked_restore_throttle": 0}, 7),
        ({"visibility_timeout": 5, "unacked_restore_interval": -1}, 105),
    ],
)
def test_time_after_which_redis_has_delivered_again(options, seconds):
    """Kombu takes 0 and less for its own interval, and a throttle of 0 for 1."""
    from celery import Celery

    from notifications.jobs.engines.celery import broker

    app = Celery("shop", set_as_current=False)
    app.conf.broker_transport_options = options
    assert broker.redelivery_seconds(app) == seconds


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
    from notifications.jobs.engines.celery import broker

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


def test_result_that_cannot_be_read_stops_no_other_job(reconciler, make_job, celery_app, monkeypatch):
    """Neither of a lost worker nor of a lost message."""
    from notifications.jobs.engines.celery import broker

    def read_meta(app, id):
        if id == str(unreadable.id):
            raise ValueError("The result cannot be decoded.")

    unreadable = make_job(state="running", worker=uuid.uuid4(), fence=1, attempt=1)
    lost = make_job(state="running", worker=uuid.uuid4(), fence=1, attempt=1)
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
    from notifications.jobs.engines.celery.broker import _is_routed

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
    from notifications.jobs.engines.celery import main_process

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
    from notifications.jobs.engines.celery import connections

    def acquire(*args, **kwargs):
        raise AssertionError("A connection of the pool was used.")

    monkeypatch.setattr(type(celery_app.amqp.producer_pool), "acquire", acquire)
    monkeypatch.setattr(type(celery_app.pool), "acquire", acquire)
    assert connections.broadcast(celery_app, "query_task", {"ids": ["x"]}, reply=True, timeout=0.1) == []
