"""Times that were stored while a clock was years fast: doctor names them, and mends them with --repair."""

import contextlib
import sys
from datetime import timedelta

import pytest
from django.core import mail
from django.db.models import DateTimeField, F
from django.utils import timezone

from notifications import stored_times, times
from notifications.api import notify
from notifications.contrib.deliveries import digests, preferences, sending
from notifications.contrib.deliveries.models import Delivery, Digest, Reader, Throttle
from notifications.contrib.operations.models import Alert, AlertState, JobStatistics
from notifications.contrib.operations.statistics import roll_up
from notifications.contrib.operations.statistics.recording import first_shard
from notifications.db import clock
from notifications.extension import list_apps
from notifications.ids import uuid7
from notifications.jobs import limits, outcomes
from notifications.jobs.declaring.policies import policy_of
from notifications.jobs.transitions import manual, queueing, reaping, recording
from notifications.jobs.transitions.claims import claim_jobs
from notifications.management.diagnosis import database
from notifications.models import Job, Notification, ServerProcess, Wait, Worker
from notifications.realtime.connections import ServerRow
from notifications.streams import number_pending, snoozing
from notifications.testing import run_jobs
from tests.contrib.deliveries.conftest import by_email, configure, outbox  # noqa: F401 (fixtures)
from tests.jobs import tasks
from tests.jobs.conftest import live_worker  # noqa: F401 (a fixture)
from tests.test_times import naive  # noqa: F401 (a fixture)

pytestmark = pytest.mark.django_db(transaction=True)

YEARS = timedelta(days=3650)

#: Why a time is not corrected, by its field. What is not in ``stored_times()`` must be here.
FOUND_BY_READER = "its reader finds that it is impossible"
CHANGED_WITH_ANOTHER = "it is changed with another field of its row"
CHOSEN = "a user, staff or the project have chosen it"
RECORDED = "written when it happens, never waited for"
ONLY_DELETED_LATE = "written when it happens; only the deletion of the row waits"
NOT_CORRECTED = {
    "Alert.acknowledged_at": RECORDED,
    "Alert.closed_at": RECORDED,
    "Alert.opened_at": RECORDED,
    "Attempt.ended_at": RECORDED,
    "Attempt.started_at": RECORDED,
    "Broadcast.created_at": RECORDED,
    "Broadcast.send_at": CHOSEN,
    "Broadcast.sent_at": RECORDED,
    "Broadcast.withdrawn_at": RECORDED,
    "Delivery.attempted_at": RECORDED,
    "Delivery.ended_at": RECORDED,
    "DutyRun.last_run_at": FOUND_BY_READER,
    "Throttle.ends_at": FOUND_BY_READER,
    "Throttle.joined_since": RECORDED,
    "Job.cancel_requested_at": RECORDED,
    "Job.created_at": RECORDED,
    "Job.expires_at": CHOSEN,
    "Job.fail_if_unknown_after": CHANGED_WITH_ANOTHER,
    "Job.idempotency_expires_at": FOUND_BY_READER,
    "Job.queued_at": RECORDED,
    "Job.started_at": RECORDED,
    "Notification.created_at": RECORDED,
    "Notification.read_at": RECORDED,
    "Notification.returned_at": RECORDED,
    "Notification.snoozed_at": RECORDED,
    "OutputChunk.created_at": RECORDED,
    "PendingMark.moment": "it is compared for equality only",
    "Preference.changed_at": RECORDED,
    "PushSubscription.created_at": RECORDED,
    "PushSubscription.seen_at": RECORDED,
    "PushSubscription.used_at": RECORDED,
    "Queue.paused_at": RECORDED,
    "Reader.paused_until": FOUND_BY_READER,
    "Schedule.created_at": RECORDED,
    "Schedule.paused_at": RECORDED,
    "Schedule.problem_since": RECORDED,
    "SeenMark.at": ONLY_DELETED_LATE,
    "ServerProcess.started_at": RECORDED,
    "Step.ended_at": RECORDED,
    "Step.started_at": RECORDED,
    "Tick.due_at": RECORDED,
    "Tick.first_due_at": RECORDED,
    "Tick.recorded_at": ONLY_DELETED_LATE,
    "Wait.ended_at": RECORDED,
    "Wait.remind_at": CHANGED_WITH_ANOTHER,
    "Wait.due_at": CHANGED_WITH_ANOTHER,
    "WebhookAttempt.started_at": ONLY_DELETED_LATE,
    "WebhookEndpoint.created_at": RECORDED,
    "WebhookEndpoint.failing_since": "an endpoint that fails is only turned off later",
    "WebhookEndpoint.off_at": RECORDED,
    "WebhookEndpoint.previous_until": "an impossible one is ignored where events are signed",
    "Worker.started_at": RECORDED,
}


def repair():
    list(stored_times.repair_wrong_times())


@pytest.fixture
def far():
    """Return a time ten years ahead."""
    return times.now() + YEARS


def assert_corrected(model, field, *, within=timedelta(hours=1), **key):
    """Check that doctor names the field of the one row, and that it is possible after a correction."""
    finding = database.check_stored_times()
    assert finding.state == "error" and f"{field} is 203" in finding.message
    repair()
    assert database.check_stored_times().state == "ok"
    value = getattr(model.objects.get(**key), field)
    assert value < timezone.now() + within


def test_lease_of_a_worker(live_worker, far):  # noqa: F811
    """A lost worker would be taken for a live one, and its jobs would not be reaped."""
    id = live_worker(20)
    Worker.objects.filter(id=id).update(lease_until=far)
    Job.objects.filter(id=tasks.noop.enqueue().id).update(state="running", worker=id, attempt=1)
    assert_corrected(Worker, "lease_until", id=id)
    Worker.objects.filter(id=id).update(lease_until=timezone.now() - timedelta(seconds=1))
    reaping.reap_jobs(set(), expired=True)
    assert Job.objects.get().state == "queued"


def test_lease_of_a_server_process(far):
    now = timezone.now()
    ServerProcess.objects.create(id=uuid7(), host="web", pid=1, started_at=now, lease_until=far)
    assert_corrected(ServerProcess, "lease_until")
    ServerProcess.objects.update(lease_until=far)
    other = ServerRow()
    other.renew(sockets=0, users=0)
    assert ServerProcess.objects.get().id == other.id


@pytest.mark.parametrize("kind", ["question", "pause", "callback"])
def test_a_wait(far, kind):
    """Its end and its reminders would come years later. They keep their distance from its beginning."""
    hour = timedelta(hours=1)
    remind_at = far + hour if kind == "question" else None
    wait = Wait.objects.create(
        job=uuid7(),
        name="nap",
        kind=kind,
        attempt=1,
        created_at=far,
        due_at=far + 3 * hour,
        remind_at=remind_at,
    )
    for id, name in ((uuid7(), "ended"), (uuid7(), "long")):
        now = timezone.now()
        ended_at = now if name == "ended" else None
        Wait.objects.create(
            job=id, name=name, kind=kind, attempt=1, created_at=now, due_at=far, ended_at=ended_at
        )
    assert_corrected(Wait, "created_at", id=wait.id)
    wait.refresh_from_db()
    assert timedelta(0) <= timezone.now() - wait.created_at < hour
    assert wait.due_at - wait.created_at == 3 * hour
    assert wait.remind_at is None or wait.remind_at - wait.created_at == hour
    assert set(Wait.objects.exclude(id=wait.id).values_list("due_at", flat=True)) == {far}


def test_on_a_machine_whose_clock_is_fast(monkeypatch, far):
    """By that clock a new time would lie in the database's future, and be replaced again and again."""
    monkeypatch.setattr(clock, "clock_offset", -timedelta(minutes=5))
    rounds = iter(range(100))
    fair_atomic = clock.fair_atomic
    monkeypatch.setattr(clock, "fair_atomic", lambda write: [next(rounds), fair_atomic(write)][1])
    Wait.objects.create(job=uuid7(), name="nap", kind="question", attempt=1, created_at=far, due_at=far)
    assert_corrected(Wait, "created_at")


@pytest.mark.parametrize("field", ["no_worker_since", "lease_lost_at"])
def test_state_of_alerts(field, far):
    AlertState.objects.create(**{field: far})
    assert_corrected(AlertState, field)


def test_open_alert(far):
    now = timezone.now()
    Alert.objects.create(kind="wait", subject="mail", opened_at=now, seen_at=far)
    Alert.objects.create(kind="wait", subject="mail", opened_at=now, seen_at=far, closed_at=now)
    assert_corrected(Alert, "seen_at", closed_at=None)


@pytest.fixture
def fast_clock(monkeypatch):
    """Return a context manager that moves the clock of the database ten years ahead."""

    @contextlib.contextmanager
    def move():
        with monkeypatch.context() as patch:
            patch.setattr(clock, "clock_offset", YEARS)
            yield

    return move


def claim_one():
    (claimed,) = claim_jobs(uuid7(), 1)
    return claimed.row


def fail(job):
    outcome = outcomes.failed(job, policy_of(tasks.attempts_so_far.func), tasks.Busy())
    assert recording.record_outcomes([outcome]) == ([outcome], [])


def test_retry_of_a_job(fast_clock, far):
    """The clock was wrong when the attempt ended. A job that was enqueued for that time keeps it."""
    delayed = tasks.noop.using(run_after=far).enqueue()
    id = tasks.attempts_so_far.enqueue().id
    job = claim_one()
    with fast_clock():
        fail(job)
    assert_corrected(Job, "run_after", id=id)
    assert Job.objects.get(id=delayed.id).run_after == far


def test_job_that_got_no_thread(fast_clock):
    """Its attempt did not count, so it has none. The clock was wrong when it was claimed."""
    id = tasks.noop.enqueue().id
    with fast_clock():
        job = claim_one()
    queueing.requeue_without_thread(job)
    assert_corrected(Job, "run_after", id=id)


def test_a_rescheduled_retry_keeps_its_time(fast_clock, far):
    """However far ahead that is, even if an earlier attempt ended by a fast clock."""
    id = tasks.attempts_so_far.enqueue().id
    with fast_clock():
        fail(claim_one())
    repair()
    fail(claim_one())
    manual.reschedule([id], far)
    repair()
    assert Job.objects.get(id=id).run_after == far
    assert database.check_stored_times().state == "ok"


def meet_unknown_task(monkeypatch, ahead):
    """Have a worker whose clock is so far ahead claim and requeue the job, whose task is unknown, when it is due."""
    monkeypatch.setattr(clock, "clock_offset", ahead)
    requeued = [queueing.requeue_unknown_task(claimed) for claimed in claim_jobs(uuid7(), 1)]
    monkeypatch.setattr(clock, "clock_offset", timedelta(0))
    return requeued


def seconds_left():
    job = Job.objects.get()
    return (job.fail_if_unknown_after - job.run_after).total_seconds()


@pytest.mark.parametrize("ahead", [YEARS, timedelta(days=2), -timedelta(days=2)])
def test_unknown_task(monkeypatch, ahead):
    """It fails a day after a worker has met it first, whichever of these workers has a wrong clock."""
    tasks.noop.enqueue()
    hour = timedelta(hours=1)
    day = 24 * 3600 - queueing.REQUEUE_DELAY_SECONDS
    for offset in (ahead, hour / 2, ahead, hour):
        # For a clock that is slow the job is not due.
        assert meet_unknown_task(monkeypatch, offset) in ([True], [])
        assert day - 2 * 3600 < seconds_left() < day + 1
        repair()
        assert day - 2 * 3600 < seconds_left() < day + 1
        assert Job.objects.get().run_after < timezone.now() + 2 * hour
        # The half hours between two of these pass.
        Job.objects.update(**{name: F(name) - hour / 2 for name in ("run_after", "fail_if_unknown_after")})
    last = timezone.now() - timedelta(seconds=1)
    Job.objects.update(run_after=last, fail_if_unknown_after=last)
    assert meet_unknown_task(monkeypatch, timedelta(0)) == [False]


def test_time_of_a_job_that_a_fast_clock_enqueued(far):
    """Only the project knows whether it meant that time, so doctor names the job, and it stays."""
    meant, wrong = (Job.objects.get(id=tasks.noop.enqueue().id) for _ in range(2))
    Job.objects.filter(id=meant.id).update(run_after=far)
    Job.objects.filter(id=wrong.id).update(run_after=far, created_at=far)
    for _ in range(2):
        finding = database.check_stored_times()
        assert finding.state == "error" and str(wrong.id) in finding.message
        assert str(meant.id) not in finding.message
        repair()
    assert Job.objects.get(id=wrong.id).run_after > timezone.now() + YEARS / 2


def test_deadline_of_a_running_job(live_worker, far):  # noqa: F811
    """A worker whose event loop is blocked would keep its jobs for years."""
    blocked, other = (tasks.noop.enqueue().id for _ in range(2))
    running = {"state": "running", "worker": live_worker(20), "attempt": 1}
    Job.objects.filter(id=blocked).update(**running, deadline=far)
    latest = timezone.now() + timedelta(days=2)  # as the longer timeout of another deployment
    Job.objects.filter(id=other).update(**running, deadline=latest)
    assert_corrected(Job, "deadline", within=timedelta(days=8), id=blocked)
    assert Job.objects.get(id=other).deadline == latest


def test_deadline_of_a_task_that_this_process_has_not_imported(live_worker, far):  # noqa: F811
    """How long it may run is not known, and its module is not imported for that."""
    id = tasks.noop.enqueue().id
    path = "tests.conformance.nowhere.train"
    Job.objects.filter(id=id).update(
        state="running", worker=live_worker(20), attempt=1, task_path=path, deadline=far
    )
    imported = set(sys.modules)
    repair()
    assert Job.objects.get(id=id).deadline == far
    assert "tests.conformance" not in set(sys.modules) - imported


@pytest.mark.parametrize("has_owner", [True, False])
def test_end_of_a_job(far, user, has_owner):
    """It would never be deleted. Its owner's clients get the new time."""
    id = tasks.noop.using(owner=user if has_owner else None).enqueue().id
    run_jobs()
    before = Job.objects.get(id=id)
    Job.objects.filter(id=id).update(finished_at=far)
    assert_corrected(Job, "finished_at", id=id)
    number_pending()
    after = Job.objects.get(id=id)
    assert after.version == before.version + 1
    assert after.seq > before.seq if has_owner else after.seq == before.seq == 0


def test_archived_notification(far, user):
    """It would never be deleted either."""
    (id,) = notify(user, "note")
    seq = Notification.objects.get(id=id).seq
    Notification.objects.filter(id=id).update(archived_at=far, counted=False)
    assert_corrected(Notification, "archived_at", id=id)
    number_pending()
    assert Notification.objects.get(id=id).seq > seq


def test_snoozed_notification(fast_clock, user):
    """It would not come back."""
    (id,) = notify(user, "note")
    until = times.now() + timedelta(hours=3)
    snoozing.snooze(user.pk, [id], Notification.objects.get(id=id).raised, until)
    number_pending()
    Notification.objects.filter(id=id).update(snoozed_until=until + YEARS)
    assert_corrected(Notification, "snoozed_until", id=id)
    snoozing.raise_due()
    row = Notification.objects.get(id=id)
    assert row.archived_at is None and row.snoozed_until is None


@pytest.fixture
def recipient(make_user, by_email):  # noqa: F811
    """Return a user to whom all notifications go by e-mail after ten minutes."""
    return make_user("ada", email="ada@users.example")


def notify_by_fast_clock(monkeypatch, user):
    """Notify a user while the clock of this machine is ten years fast, and return the delivery."""
    with monkeypatch.context() as patch:
        patch.setattr(times, "now", lambda: timezone.now() + YEARS)
        (id,) = notify(user, "The export is ready")
    return Delivery.objects.get(notification=id)


def test_delivery(monkeypatch, recipient):
    """The e-mail would be sent ten years later."""
    delivery = notify_by_fast_clock(monkeypatch, recipient)
    sending.enqueue_due()
    assert Delivery.objects.get().state == "pending"
    assert_corrected(Delivery, "due_at", id=delivery.id)
    sending.enqueue_due()
    run_jobs()
    assert [email.subject for email in mail.outbox] == ["The export is ready"]
    assert Delivery.objects.get().state == "sent"


def test_delivery_of_a_paused_user(recipient):
    """A pause of a year is possible, and its deliveries keep its end."""
    notify(recipient, "The export is ready")
    until = times.now() + preferences.MAX_PAUSE
    preferences.change_reader(recipient.pk, paused_until=until)
    Delivery.objects.update(due_at=until)
    repair()
    assert Delivery.objects.get().due_at == until
    assert database.check_stored_times().state == "ok"


def test_delivery_of_a_user_who_was_paused_by_a_fast_clock(recipient, far):
    """The pause is impossible, so it does not put the corrected delivery off again."""
    notify(recipient, "The export is ready")
    Reader.objects.create(user=recipient, paused_until=far)
    Delivery.objects.update(due_at=far)
    assert_corrected(Delivery, "due_at")
    sending.enqueue_due()
    run_jobs()
    assert Delivery.objects.get().state == "sent"


def test_digests(fast_clock, recipient):
    """Two windows of one user end ten years later. Both e-mails are sent, and the rows can be deleted."""
    preferences.change_reader(
        recipient.pk, digest_hour=(timezone.now().hour + 3) % 24, time_zone="UTC"
    )  # which is not the end of this hour
    preferences.choose(recipient.pk, {("daily", "email"): "daily", ("hourly", "email"): "hourly"})
    for category in ("daily", "hourly"):
        notify(recipient, category, category=category)
    Delivery.objects.update(due_at=timezone.now())
    with fast_clock():
        sending.enqueue_due()
    jobs = list(Digest.objects.values_list("job", flat=True))
    assert len(jobs) == 2
    finding = database.check_stored_times()
    assert finding.state == "error" and all(str(id) in finding.message for id in jobs)
    repair()
    assert database.check_stored_times().state == "ok"
    run_jobs()
    assert len(mail.outbox) == 2
    assert set(Delivery.objects.values_list("state", flat=True)) == {"sent"}
    assert not Digest.objects.filter(due_at__gt=timezone.now()).exists()


def test_message_that_e_mails_have_joined(fast_clock, recipient, monkeypatch):
    """Its window ends ten years later. It is sent, and later e-mails wait for nothing."""
    monkeypatch.setattr(digests, "THROTTLE", timedelta(minutes=10))
    for number in range(3):
        notify(recipient, f"Number {number}")
    Delivery.objects.update(due_at=timezone.now())
    with fast_clock():
        sending.enqueue_due()
    assert database.check_stored_times().state == "error"
    repair()
    assert database.check_stored_times().state == "ok"
    run_jobs()
    assert [email.subject for email in mail.outbox] == ["Number 0", "2 new notifications"]
    Throttle.objects.update(ends_at=timezone.now() + YEARS)
    notify(recipient, "Later")
    Delivery.objects.filter(state="pending").update(due_at=timezone.now())
    sending.enqueue_due()
    run_jobs()
    assert mail.outbox[-1].subject == "Later"


def test_times_that_the_database_computes_with_naive_times(user, naive, far):  # noqa: F811
    """In projects with USE_TZ = False, where Django would refuse an aware time."""
    Digest.objects.create(user=user, channel="email", due_at=far, job=uuid7())
    wait = {"job": uuid7(), "name": "nap", "kind": "question", "attempt": 1, "created_at": far}
    Wait.objects.create(**wait, due_at=far)
    job = {"run_after": far, "fail_if_unknown_after": far}
    Job.objects.filter(id=tasks.noop.enqueue().id).update(**job)
    repair()
    assert abs(Digest.objects.get().due_at + YEARS - times.now()) < timedelta(hours=1)
    for row, field in ((Wait.objects.get(), "due_at"), (Job.objects.get(), "fail_if_unknown_after")):
        assert abs(getattr(row, field) - times.now()) < timedelta(hours=1)


def test_idempotency_key(far):
    """It can be used again a day after now at the latest."""
    first = tasks.noop.using(key="once").enqueue()
    assert tasks.noop.using(key="once").enqueue().id == first.id
    Job.objects.filter(id=first.id).update(idempotency_expires_at=far)
    assert tasks.noop.using(key="once").enqueue().id != first.id


def test_jobs_per_minute(settings, user, far):
    """Jobs of the future are not those of the last minute."""
    settings.NOTIFICATIONS = {**settings.NOTIFICATIONS, "JOBS_PER_MINUTE": 1}
    Job.objects.filter(id=tasks.noop.using(owner=user).enqueue().id).update(created_at=far)
    with limits.limit_request():
        tasks.noop.using(owner=user).enqueue()
    assert Job.objects.count() == 2


def test_statistics(far):
    """Rows of a writer's minute in the future are rolled up."""
    tasks.noop.enqueue()
    now = int(timezone.now().timestamp())
    row = {"queue_name": "q", "task_path": "t", "outcome": "succeeded", "count": 1, "enqueued": 0}
    row |= {"wait_microseconds": 0, "run_microseconds": 0, "start": now // 60 * 60, "period": 1}
    JobStatistics.objects.create(shard=first_shard(far.timestamp()) + 1, **row)
    assert roll_up.roll_up_chunk() >= 1
    assert not JobStatistics.objects.filter(shard__gt=0, queue_name="q").exists()


def test_every_stored_time_is_corrected_or_need_not_be():
    """A new field that is waited for would else be forgotten, and wait for years after a clock was fast."""
    # Deadlines are corrected by the tasks of running jobs.
    running = {"state": "running", "worker": uuid7(), "attempt": 1, "deadline": timezone.now()}
    Job.objects.filter(id=tasks.noop.enqueue().id).update(**running)
    corrected = {
        f"{stored.model.__name__}.{stored.name}" for stored in stored_times.stored_times(times.now())
    }
    fields = {
        f"{model.__name__}.{field.name}"
        for config in list_apps()
        for model in config.get_models(include_auto_created=True)
        for field in model._meta.local_fields
        if isinstance(field, DateTimeField)
    }
    assert fields - corrected == set(NOT_CORRECTED)
    assert all(NOT_CORRECTED.values())
