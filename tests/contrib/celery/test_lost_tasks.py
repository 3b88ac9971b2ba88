"""What becomes of the job of a task whose reports come, are lost, or come late."""

import os
import uuid
from datetime import timedelta
from types import SimpleNamespace

import pytest

from notifications import times
from notifications.jobs import ObservedAttempt, Policy
from notifications.models import Attempt, Job, Notification
from notifications.worker import Lease
from tests.contrib.celery.conftest import bell_of
from tests.contrib.celery.test_recording import new_row
from tests.support.outcomes import error_type, observer, succeeded

states = pytest.importorskip("celery.states", reason="Celery is not installed (pip install celery).")

from billiard.exceptions import TimeLimitExceeded  # noqa: E402
from celery.worker import state as worker_state  # noqa: E402

TASK = "tests.contrib.celery.tasks.export"
POLICY = Policy(max_attempts=1)
#: A process of this worker, and one that is gone.
CHILD, GONE = 101, 102
STORED = {"status": states.SUCCESS, "result": {"rows": 3}}


@pytest.fixture
def lease(transactional_db, monkeypatch):
    """The lease of this worker, which may end the jobs of others."""
    lease = Lease(queues=["celery:celery"], concurrency=0, load=lambda: 0)
    lease._insert_row()
    monkeypatch.setattr(lease, "may_reap", lambda: True)
    yield lease
    lease.stop()


class Results:
    """A result backend. ``stored`` has results by the ids of tasks, ``asked`` the ids that were looked up."""

    def __init__(self):
        self.stored, self.asked = {}, []
        #: What is raised for a task, by its id.
        self.error_of = lambda id: None

    def as_uri(self):
        return "memory://"

    def get_task_meta(self, id, cache):
        self.asked.append(id)
        if error := self.error_of(id):
            raise error
        return self.stored.get(id, {"status": states.PENDING})


@pytest.fixture
def results():
    return Results()


@pytest.fixture
def stored(results):
    """What the result backend has stored, by the ids of tasks."""
    return results.stored


@pytest.fixture(autouse=True)
def known_successes():
    """Those that Celery's main process keeps, which is this process."""
    yield worker_state.successful_requests
    worker_state.successful_requests.clear()


@pytest.fixture
def lost_tasks(lease, results):
    from notifications.contrib.celery.lost_tasks import LostTasks

    app = SimpleNamespace(backend=results)
    return LostTasks(app, "nobody@nowhere", lease, lambda: {os.getpid(), CHILD})


@pytest.fixture
def make_job(user):
    """make_job(**fields) inserts the job of an observed task."""

    def make(**fields):
        if fields.get("state") == "running":
            started = {"attempt": 1, "fence": 1, "started_at": times.now(), "process_id": GONE}
            fields = {"worker": uuid.uuid4(), **started, **fields}
        row = new_row(user, task_path=TASK, **fields)
        row.save(force_insert=True)
        return row

    return make


def problem(job):
    job.refresh_from_db()
    return job.state, error_type(job)


class Reports:
    """What the processes of a schedule do, each by a method of its name."""

    def __init__(self, job, lost_tasks, lease, stored, acks_late):
        self.job, self.lost_tasks, self.lease, self.stored = job, lost_tasks, lease, stored
        self.acks_late = acks_late
        self.attempts = {}

    def attempt(self, number, worker, process_id, retries=0):
        if number not in self.attempts:
            job = Job.objects.get(id=self.job.id)
            self.attempts[number] = ObservedAttempt(
                id=job.id,
                worker=worker,
                process_id=process_id,
                acks_late=self.acks_late,
                number=retries + 1,
                policy=POLICY,
                make_job=lambda: job,
            )
        return self.attempts[number]

    def start(self, number=1, worker=None, process_id=GONE, retries=0):
        observer.record([self.attempt(number, worker or self.lease.worker, process_id, retries)])

    def start_elsewhere(self):
        self.start(worker=uuid.uuid4(), process_id=CHILD)

    def end(self, number=1):
        attempt = self.attempt(number, self.lease.worker, GONE)
        attempt.outcome = succeeded
        observer.record([attempt])

    def start_again(self):
        self.start(2, process_id=CHILD)

    def retry(self):
        self.start(2, process_id=CHILD, retries=1)

    def end_again(self):
        self.end(2)

    def celery_reports_killed_child(self):
        job = observer.read(self.job.id)
        observer.end(observer.failed_as(job, POLICY, "worker-lost"))

    def result_is_stored(self):
        self.stored[str(self.job.id)] = STORED

    def retry_is_stored(self):
        self.stored[str(self.job.id)] = {"status": states.RETRY, "result": OSError()}

    def celery_knows_success(self):
        """The main process of the worker has heard of it from the child."""
        worker_state.successful_requests.add(str(self.job.id))

    def child_is_gone(self):
        self.lost_tasks.run_round()
        self.lost_tasks.process_ids = lambda: {os.getpid()}
        self.check_processes()

    def minute_passes(self):
        queued_at = times.now() - timedelta(seconds=61)
        Job.objects.filter(state="queued").update(queued_at=queued_at)
        self.lost_tasks.run_round()

    def requeued(self):
        observer.requeue(Job.objects.get(id=self.job.id))

    def replaced(self):
        observer.requeue(Job.objects.get(id=self.job.id), is_replaced=True)

    def cancel(self):
        Job.objects.update(cancel_requested_at=times.now())

    def expire(self):
        Job.objects.update(expires_at=times.now() - timedelta(seconds=10))
        self.lost_tasks.run_round()

    def expires_soon(self):
        Job.objects.update(expires_at=times.now() - timedelta(seconds=10))

    def check_processes(self):
        """Look twice, as the main process of a worker does when a child of it, or another worker, is gone."""
        self.lost_tasks.run_round()
        self.lost_tasks.run_round()


EARLY, LATE = False, True
SCHEDULES = [
    # acks_late, what happens, the state and error of the job, and the notifications, those that are archived first
    (EARLY, "start end", "succeeded", ["success"]),
    (EARLY, "end", "succeeded", ["success"]),  # the start is lost
    (EARLY, "check_processes", "queued", []),  # start and end are lost
    (EARLY, "minute_passes", "queued", []),
    (EARLY, "result_is_stored check_processes", "queued", []),  # its reports may be on their way
    (EARLY, "result_is_stored minute_passes", "succeeded", ["success"]),
    (EARLY, "result_is_stored minute_passes start end", "succeeded", ["success"]),
    (EARLY, "retry_is_stored minute_passes", "queued", []),
    (EARLY, "celery_knows_success check_processes", "queued", []),  # the child records it, with its result
    (EARLY, "celery_knows_success child_is_gone", "succeeded", ["success"]),
    (EARLY, "celery_knows_success check_processes minute_passes", "succeeded", ["success"]),
    (EARLY, "child_is_gone", "queued", []),
    (EARLY, "start celery_knows_success check_processes", "succeeded", ["success"]),
    (LATE, "start celery_knows_success check_processes", "succeeded", ["success"]),
    (EARLY, "expire", "failed expired", ["error"]),
    (EARLY, "result_is_stored expire", "succeeded", ["success"]),
    (EARLY, "expire start_again", "running", ["error"]),  # it was only late
    (EARLY, "expire start_again end_again", "succeeded", ["error", "success"]),
    (EARLY, "start check_processes", "failed outcome-unknown", ["error"]),  # the end is lost
    (EARLY, "start result_is_stored check_processes", "succeeded", ["success"]),
    (
        EARLY,
        "start retry_is_stored check_processes",
        "failed outcome-unknown",
        ["error"],
    ),  # as at a cold shutdown
    (
        EARLY,
        "start retry_is_stored check_processes retry",
        "running",
        ["error"],
    ),  # the report of the retry is lost
    (EARLY, "start retry_is_stored check_processes retry end_again", "succeeded", ["error", "success"]),
    (EARLY, "start check_processes start_again", "failed outcome-unknown", ["error"]),
    (EARLY, "start celery_reports_killed_child check_processes", "failed worker-lost", ["error"]),
    (EARLY, "celery_reports_killed_child", "failed worker-lost", ["error"]),  # its start died with the child
    (EARLY, "celery_reports_killed_child start", "failed worker-lost", ["error"]),
    (EARLY, "start replaced expire", "queued", []),  # the tasks that replace it are not observed
    (EARLY, "start replaced result_is_stored expire", "succeeded", ["success"]),
    (EARLY, "start replaced celery_knows_success minute_passes", "queued", []),
    (EARLY, "start replaced start_again end_again", "succeeded", ["success"]),
    (EARLY, "start cancel check_processes", "cancelled cancelled", []),
    (EARLY, "start check_processes end", "succeeded", ["error", "success"]),  # the child was suspended
    (EARLY, "start check_processes end end", "succeeded", ["error", "success"]),
    (EARLY, "start check_processes check_processes", "failed outcome-unknown", ["error"]),
    (EARLY, "start_again check_processes end_again", "succeeded", ["success"]),  # its process is there
    (EARLY, "start_elsewhere check_processes", "failed outcome-unknown", ["error"]),  # the host is gone
    (EARLY, "start_elsewhere check_processes end", "succeeded", ["error", "success"]),
    (LATE, "start check_processes", "queued", []),
    (LATE, "start result_is_stored check_processes", "succeeded", ["success"]),
    (LATE, "start check_processes start_again end_again", "succeeded", ["success"]),
    (LATE, "start check_processes end", "succeeded", ["success"]),
    (LATE, "start check_processes start_again end", "running", []),  # only the last execution counts
    (LATE, "start check_processes start_again end end_again", "succeeded", ["success"]),
    (LATE, "start check_processes end start_again end_again", "succeeded", ["success"]),
    (LATE, "start start_again end end_again", "succeeded", ["success"]),
    (LATE, "expires_soon start requeued check_processes", "queued", []),  # it was started in time
    (LATE, "start check_processes expire", "failed expired", ["error"]),  # the message is lost, too
    (LATE, "start cancel check_processes", "cancelled cancelled", []),
    (LATE, "start_elsewhere check_processes start_again end_again", "succeeded", ["success"]),
]


@pytest.mark.parametrize(
    ("acks_late", "schedule", "expected", "levels"),
    SCHEDULES,
    ids=[f"{'late' if late else 'early'}: {schedule}" for late, schedule, *_ in SCHEDULES],
)
def test_schedule(make_job, lost_tasks, lease, stored, user, acks_late, schedule, expected, levels):
    job = make_job()
    reports = Reports(job, lost_tasks, lease, stored, acks_late)
    for step in schedule.split():
        getattr(reports, step)()
    assert " ".join(problem(job)).strip() == expected
    assert [level for *_, level in bell_of(user)] == levels
    assert Notification.objects.filter(archived_at=None).count() == min(len(levels), 1)


def test_one_check_ends_no_task_of_its_own_worker(make_job, lost_tasks, lease):
    """Celery itself reports that a child was killed."""
    job = make_job(state="running", worker=lease.worker)
    lost_tasks.run_round()
    assert problem(job) == ("running", "")


def test_task_of_a_live_worker_is_left_alone(make_job, lost_tasks, live_worker):
    job = make_job(state="running", worker=live_worker())
    lost_tasks.run_round()
    assert problem(job) == ("running", "")


def test_nothing_is_taken_from_others_while_the_lease_is_in_doubt(make_job, lost_tasks, lease, monkeypatch):
    monkeypatch.setattr(lease, "may_reap", lambda: False)
    job = make_job(state="running")
    lost_tasks.run_round()
    assert problem(job) == ("running", "")


def test_the_attempt_of_a_lost_task_is_kept(make_job, lost_tasks):
    job = make_job(state="running")
    lost_tasks.run_round()
    assert problem(job) == ("failed", "outcome-unknown")
    assert Attempt.objects.get(job=job).outcome == "lost"


def test_what_the_owner_reads(make_job, lost_tasks, user):
    make_job(state="running")
    lost_tasks.run_round()
    assert bell_of(user) == [
        ("Export", "The worker that ran it is gone; whether it finished is not known.", "error")
    ]


def test_start_within_counts_from_the_loss(make_job, lost_tasks, settings):
    settings.NOTIFICATIONS = {"CELERY": {"tasks": {TASK: {"start_within": 3600}}}}
    job = make_job(state="running", acks_late=True)
    lost_tasks.run_round()
    assert problem(job) == ("queued", "")
    assert timedelta(minutes=59) < job.expires_at - times.now() <= timedelta(hours=1)


def test_a_task_that_may_be_about_to_be_recorded_does_not_expire(make_job, lost_tasks):
    job = make_job(expires_at=times.now() - timedelta(seconds=1))
    lost_tasks.run_round()
    assert problem(job) == ("queued", "")


def test_all_silent_jobs_are_looked_up_in_turn(make_job, lost_tasks, results, monkeypatch):
    """A hundred in a round: here two."""
    from notifications.contrib.celery import lost_tasks as module

    monkeypatch.setattr(module, "MAX_JOBS_PER_ROUND", 2)
    queued_at = times.now() - timedelta(seconds=61)
    jobs = [make_job(queued_at=queued_at) for _ in range(5)]
    make_job(), make_job(queued_at=queued_at, run_after=times.now() - timedelta(seconds=1))
    counts = []
    for _ in range(4):
        lost_tasks.run_round()
        counts.append(len(results.asked))
    assert counts == [2, 4, 5, 7]
    assert set(results.asked) == {str(job.id) for job in jobs}


def test_a_result_backend_that_is_away_is_not_asked_for_each_job(make_job, lost_tasks, results):
    results.error_of = lambda id: ConnectionError("away")
    for _ in range(5):
        make_job(queued_at=times.now() - timedelta(seconds=61))
    lost_tasks.run_round()
    assert len(results.asked) == 3


@pytest.mark.parametrize("error", [ValueError("The result cannot be decoded."), FileNotFoundError("result")])
def test_result_that_cannot_be_read_stops_no_other_job(make_job, lost_tasks, results, caplog, error):
    results.error_of = lambda id: error if id == str(unreadable.id) else None
    unreadable = make_job(state="running", worker=uuid.UUID(int=1))
    lost = make_job(state="running", worker=uuid.UUID(int=2))
    lost_tasks.run_round()
    assert (problem(unreadable), problem(lost)) == (("running", ""), ("failed", "outcome-unknown"))
    assert f"job {unreadable.id}" in caplog.text


@pytest.mark.parametrize(
    ("state", "value", "expected"),
    [
        (states.SUCCESS, {"rows": 3}, ("succeeded", "")),
        (states.FAILURE, ValueError("x"), ("failed", "task-failed")),
        (
            states.FAILURE,
            TimeLimitExceeded(1),
            ("failed", "timed-out"),
        ),  # Celery before 5.7 does not report it
        (states.REVOKED, None, ("cancelled", "cancelled")),
    ],
)
def test_the_result_backend_knows_the_end(celery_app, lease, make_job, state, value, expected):
    from notifications.contrib.celery.lost_tasks import LostTasks

    job = make_job(state="running")
    if state == states.REVOKED:
        celery_app.backend.mark_as_revoked(str(job.id), "revoked")
    else:
        celery_app.backend.store_result(str(job.id), value, state)
    LostTasks(celery_app, "nobody@nowhere", lease).run_round()
    assert problem(job) == expected
    if state == states.SUCCESS:
        assert job.result == '{"rows":3}'
