"""Rows that were stored while a clock was ten years fast: leases and duties are not believed, what waits is named."""

import re
from datetime import timedelta
from pathlib import Path

import pytest
from django.urls import reverse
from django.utils import timezone

import notifications
from notifications import times
from notifications.api import notify
from notifications.contrib.deliveries.models import Delivery, Reader, Throttle
from notifications.contrib.operations.models import AlertState, JobStatistics
from notifications.jobs import JobFilter, Policy
from notifications.models import Job, Notification, ServerProcess, Wait, Worker, uuid7
from notifications.testing import run_jobs
from tests.contrib.deliveries.conftest import by_email, configure, outbox, set_throttle  # noqa: F401 (fixtures)
from tests.jobs import tasks
from tests.jobs.conftest import live_worker  # noqa: F401 (a fixture)
from tests.jobs.transitions.test_queueing import YEARS, fast_clock, find_wrong_times  # noqa: F401 (one is a fixture)
from tests.support.checks import doctor
from tests.support.claims import claim_rows
from tests.support.duties import run_duty
from tests.support.offenders import collect_offenders
from tests.support.outcomes import failed, record

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.nightly_on_old_django]

TOKEN = "a-token-of-24-characters"


@pytest.fixture
def far():
    """Return a time ten years ahead."""
    return times.now() + YEARS


@pytest.fixture
def read_metrics(settings, client):
    """read_metrics() returns the values of the metrics that have no labels, by name."""
    settings.NOTIFICATIONS = {**settings.NOTIFICATIONS, "METRICS_TOKEN": TOKEN}

    def read():
        page = client.get("/notifications/metrics/", headers={"Authorization": f"Bearer {TOKEN}"})
        return {name: float(value) for name, value in re.findall(r"^(\w+) ([\d.]+)$", page.text, re.M)}

    return read


@pytest.fixture
def read_overview(admin_client):
    """read_overview() returns what the overview of the admin shows."""
    address = reverse("admin:notifications_operations_overview_figures")
    return lambda: admin_client.get(address).context["figures"]


def test_lease_of_a_worker(live_worker, far, read_metrics, read_overview, settings):  # noqa: F811
    """No reader takes the worker for a live one, so that its jobs are queued again and alerts are raised."""
    id, *_ = [live_worker(queues=queues) for queues in ("", "engine:Celery", "celery:mail")]
    Worker.objects.update(lease_until=far)
    job = tasks.noop.enqueue().id
    now = timezone.now()
    Job.objects.filter(id=job).update(created_at=now - timedelta(hours=1), queued_at=now - timedelta(hours=1))
    readers = {
        "a probe": lambda: doctor("ready", live=True)[0]["state"] == "ok",
        "doctor": lambda: doctor("workers")[0]["state"] != "error",
        "alerts": lambda: AlertState.objects.get().no_worker_since is None,
        "metrics": lambda: read_metrics()["notifications_workers"],
        "the overview": lambda: any(row.is_live for row in read_overview().workers),
    }
    settings.NOTIFICATIONS = {**settings.NOTIFICATIONS, "ALERTS": {}}
    run_duty("evaluate alerts")
    with collect_offenders() as offenders:
        for name, is_taken_for_live in readers.items():
            with offenders.row(name):
                assert not is_taken_for_live()
    Job.objects.filter(id=job).update(state="running", worker=id, attempt=1)
    run_duty("take jobs from lost workers")
    assert Job.objects.get().state == "queued" and not Worker.objects.exists()


def test_lease_of_a_server_process(far, read_metrics, read_overview):
    now = timezone.now()
    ServerProcess.objects.create(id=uuid7(), host="web", pid=1, started_at=now, lease_until=far)
    assert not read_overview().servers
    assert read_metrics()["notifications_servers"] == 0


def fail_attempt(job):
    assert record(failed(job, tasks.Busy(), Policy(retry_on=tasks.Busy)))


def reschedule(id, run_at=None):
    change = "run_now" if run_at is None else "reschedule"
    [chunk] = JobFilter(search=str(id)).change(change, run_at=run_at)
    assert list(chunk.changed) == [id]


def claim_one():
    (job,) = claim_rows(uuid7(), 1)
    return job


def test_leases_are_compared_in_one_module():
    """Another one would believe a lease that a fast clock has stored. Only its worker compares its own."""
    root = Path(notifications.__file__).parent
    found = {
        str(path.relative_to(root))
        for path in root.rglob("*.py")
        if re.search(r"lease_until__|lease_until [<>]", path.read_text())
    }
    assert found == {"db/clock.py", "worker/lease.py", "jobs/transitions/reaping.py"}


def test_retry_of_a_job(fast_clock, far):  # noqa: F811
    """It is named, and begins at once when it is rescheduled. A job that was enqueued for that time is not."""
    delayed = tasks.noop.using(run_after=far).enqueue()
    id = Job.objects.get(id=tasks.attempts_so_far.enqueue().id).id
    job = claim_one()
    with fast_clock():
        fail_attempt(job)
    assert f"job {id}: run_after is 203" in find_wrong_times() and str(delayed.id) not in find_wrong_times()
    reschedule(id)
    assert not find_wrong_times() and [job.id for job in claim_rows(uuid7(), 5)] == [id]
    assert Job.objects.get(id=delayed.id).run_after == far


def test_a_rescheduled_retry_is_not_named(fast_clock, far):  # noqa: F811
    """However far ahead that is, even if an earlier attempt ended by a fast clock."""
    id = Job.objects.get(id=tasks.attempts_so_far.enqueue().id).id
    with fast_clock():
        fail_attempt(claim_one())
    reschedule(id)
    fail_attempt(claim_one())
    reschedule(id, far)
    assert not find_wrong_times() and Job.objects.get(id=id).run_after == far


def test_job_that_a_fast_clock_enqueued(far):
    meant, wrong = (Job.objects.get(id=tasks.noop.enqueue().id) for _ in range(2))
    Job.objects.filter(id=meant.id).update(run_after=far, due_at=far)
    Job.objects.filter(id=wrong.id).update(run_after=far, due_at=far, created_at=far)
    assert str(wrong.id) in find_wrong_times() and str(meant.id) not in find_wrong_times()


@pytest.mark.parametrize("kind", ["question", "pause", "callback"])
def test_a_wait(far, kind):
    """Its end comes years later. One that has ended, and one that was stored by a right clock, are not named."""
    now = timezone.now()
    ids = {}
    for name, created_at, ended_at in (("nap", far, None), ("ended", far, now), ("long", now, None)):
        wait = {"kind": kind, "attempt": 1, "due_at": far + timedelta(hours=3)}
        row = Wait.objects.create(job=uuid7(), name=name, created_at=created_at, ended_at=ended_at, **wait)
        ids[name] = str(row.id)
    assert f"{ids['nap']}: created_at is 203" in find_wrong_times()
    assert ids["ended"] not in find_wrong_times() and ids["long"] not in find_wrong_times()


def test_snoozed_notification(far, user):
    """No user can have chosen ten years."""
    meant, wrong = (notify(user, "note")[0] for _ in range(2))
    for id, until in ((meant, timezone.now() + timedelta(hours=3)), (wrong, far)):
        Notification.objects.filter(id=id).update(archived_at=timezone.now(), snoozed_until=until)
    assert (
        f"notification {wrong}: snoozed_until is 203" in find_wrong_times()
        and str(meant) not in find_wrong_times()
    )


@pytest.fixture
def recipient(make_user, by_email):  # noqa: F811
    """Return a user to whom all notifications go by e-mail after ten minutes."""
    return make_user("ada", email="ada@users.example")


def test_delivery_of_a_user_who_was_paused_by_a_fast_clock(recipient, far):
    """The pause is impossible, so it does not put the delivery off again."""
    notify(recipient, "The export is ready")
    Reader.objects.create(user=recipient, paused_until=far)
    Delivery.objects.update(due_at=timezone.now())
    run_duty("enqueue deliveries by email")
    run_jobs()
    assert Delivery.objects.get().state == "sent"


def test_message_that_e_mails_have_joined(recipient, set_throttle, far):  # noqa: F811
    """Its window ended years later by a fast clock. Later e-mails wait for nothing."""
    set_throttle(10)
    for title in ("First", "Later"):
        notify(recipient, title)
        Delivery.objects.filter(state="pending").update(due_at=timezone.now())
        run_duty("enqueue deliveries by email")
        run_jobs()
        Throttle.objects.update(ends_at=far)
    assert list(Delivery.objects.values_list("state", flat=True)) == ["sent", "sent"]


def test_idempotency_key(far):
    """It can be used again a day after now at the latest."""
    first = tasks.noop.using(key="once").enqueue()
    assert tasks.noop.using(key="once").enqueue().id == first.id
    Job.objects.filter(id=first.id).update(idempotency_expires_at=far)
    assert tasks.noop.using(key="once").enqueue().id != first.id


def test_jobs_per_minute(settings, user_client, far):
    """Jobs of the future are not those of the last minute."""
    settings.NOTIFICATIONS = {**settings.NOTIFICATIONS, "JOBS_PER_MINUTE": 1}
    settings.ROOT_URLCONF = "tests.http.views"
    assert [user_client.post("/plain/").status_code for _ in range(2)] == [202, 429]
    Job.objects.update(created_at=far)
    assert user_client.post("/plain/").status_code == 202


def test_statistics(far):
    """Rows of a writer's minute in the future are rolled up."""
    tasks.noop.enqueue()
    now = int(timezone.now().timestamp())
    row = {"queue_name": "q", "task_path": "t", "outcome": "succeeded", "count": 1, "enqueued": 0}
    row |= {"wait_microseconds": 0, "run_microseconds": 0, "start": now // 60 * 60, "period": 1}
    JobStatistics.objects.create(shard=(int(far.timestamp()) // 60 << 32) + 1, **row)
    run_duty("roll up statistics")
    assert not JobStatistics.objects.filter(shard__gt=0, queue_name="q").exists()
