"""The notification of a finished batch, and the progress of a running one."""

import json

import pytest

from notifications.api import batch
from notifications.jobs import retry
from notifications.models import Job, Notification
from notifications.signals import rung
from notifications.testing import connect, run_jobs
from tests.jobs import tasks
from tests.jobs.batch_rows import claim_all, end, row
from tests.jobs.conftest import notifications_of
from tests.support.duties import run_duty
from tests.support.statements import preceded

pytestmark = pytest.mark.nightly_on_old_django


def omit(done):
    """Return None, so that no notification is created."""
    return


def raise_exit(done):
    """Raise SystemExit, which the worker must survive."""
    raise SystemExit


ZERO_COUNTS = {"succeeded": 0, "failed": 0, "cancelled": 0}


@pytest.fixture
def set_interval(set_bounds):
    """set_interval(seconds) sets the time between two records of the progress of a batch."""
    return lambda seconds: set_bounds(beats=seconds)


@pytest.fixture
def always_report(set_interval):
    set_interval(0.0)


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("fails", [False, True])
def test_a_notify_function(user, fails):
    with batch(owner=user, title="Mine", notify=tasks.describe):
        (tasks.fail if fails else tasks.noop).enqueue()
    run_jobs()
    (note,) = notifications_of(user)
    assert (note.title, note.body) == (
        ("Mine: failed", "0 of 1 done, 1 failed")
        if fails
        else ("Mine: succeeded", str({**ZERO_COUNTS, "succeeded": 1}))
    )


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("notify", [False, omit])
def test_no_notification(user, notify):
    with batch(owner=user, notify=notify) as b:
        tasks.noop.enqueue()
    run_jobs()
    assert row(b).state == "succeeded"
    assert notifications_of(user) == []


@pytest.mark.django_db(transaction=True)
def test_a_notify_function_that_no_longer_exists(user, caplog):
    with batch(owner=user, title="Old", notify=tasks.describe):
        tasks.noop.enqueue()
    Job.objects.filter(user=user).update(kwargs='{"notify":"tests.jobs.tasks.gone"}')
    run_jobs()
    assert [note.title for note in notifications_of(user)] == ["Old"]
    assert "Host code failed: notify function tests.jobs.tasks.gone of job" in caplog.text


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("path", ["tests.jobs.tasks.asyncio", "module_that_fails.words"])
def test_a_notify_function_that_cannot_be_imported(user, path, tmp_path, monkeypatch):
    """The path is not that of a function, or its module raises. Other batches are not affected."""
    (tmp_path / "module_that_fails.py").write_text("raise RuntimeError")
    monkeypatch.syspath_prepend(tmp_path)
    for title, notify in (("One", path), ("Two", "tests.jobs.tasks.describe")):
        with batch(owner=user, title=title) as b:
            pass
        Job.objects.filter(id=b.id).update(
            kwargs=json.dumps({"notify": notify}), state="running", seq=0, finished_at=None
        )
    Notification.objects.all().delete()
    run_duty("finish batches")
    assert {note.title for note in notifications_of(user)} == {"One", "Two: succeeded"}


@pytest.mark.django_db(transaction=True)
def test_a_notify_function_that_exits(user, caplog):
    """The default notification is created."""
    with batch(owner=user, title="Any", notify=raise_exit) as b:
        tasks.noop.enqueue()
    run_jobs()
    assert row(b).state == "succeeded"
    assert [note.title for note in notifications_of(user)] == ["Any"]
    assert (
        "Host code failed: notify function tests.jobs.test_batch_notifications.raise_exit of job"
        in caplog.text
    )


@pytest.mark.django_db(transaction=True)
def test_a_notification_that_cannot_be_built(user, caplog):
    """The batch ends without a notification, and other batches are not affected."""
    for title in ("One", "Two"):
        with batch(owner=user, title=title):
            tasks.noop.enqueue()
    # What another version has stored.
    Job.objects.filter(title="One").update(kwargs='{"notify": {"unknown": true}}')
    run_jobs()
    assert [job.state for job in Job.objects.filter(user=user).order_by("id")] == ["failed", "succeeded"]
    assert [note.title for note in notifications_of(user)] == ["Two"]
    assert "Host code failed: outcome of batch" in caplog.text


def test_progress(user, always_report, transactional_db):
    """Each finished job advances the progress and rings for the owner. The message counts failures."""
    with batch(owner=user) as b:
        for _ in range(4):
            tasks.noop.enqueue()
    rung_users, reports = [], []

    def receive(users, **kwargs):
        rung_users.extend(users)

    rung.connect(receive)
    try:
        for number, job in enumerate(claim_all()):
            rung_users.clear()
            end(job, succeeds=number != 1)
            state = row(b)
            reports.append(
                (state.progress_current, state.progress_message, state.state, rung_users == [user.pk])
            )
    finally:
        rung.disconnect(receive)
    assert reports[:3] == [
        (1, "", "running", True),
        (2, "1 failed", "running", True),
        (3, "1 failed", "running", True),
    ]
    assert reports[3][:3] == (4, "", "failed")


def test_progress_in_the_browser(user, always_report, transactional_db):
    """The client has one job, whose progress counts the jobs of the batch, and one notification."""
    with connect(user) as client:
        with batch(owner=user) as b:
            for _ in range(3):
                tasks.noop.enqueue()
        for number, job in enumerate(claim_all()):
            item = client.until(
                lambda client, number=number: next(
                    (item for item in client.jobs.values() if item["progress"]["current"] == number), None
                )
            )
            assert (item["id"], item["state"], item["progress"]["total"]) == (str(b.id), "running", 3)
            end(job)
        assert client.notification("3 jobs")["job"] == str(b.id)
        assert client.jobs.keys() == {str(b.id)}
        assert client.unread == 1


def test_progress_never_decreases(user, always_report, transactional_db):
    """Of two concurrent writers the one with the smaller count writes last."""
    with batch(owner=user) as b:
        for _ in range(3):
            tasks.noop.enqueue()
    first, second, _ = claim_all()
    lock_batch = r'"notifications_job"."worker" IS NULL AND "notifications_job"."id" IN .*ORDER BY'
    with preceded(lock_batch, lambda: end(second)) as statements:
        end(first)
    assert statements
    assert row(b).progress_current == 2


def test_progress_is_throttled(user, transactional_db, set_interval):
    """It is not stored for each job. Maintenance of a worker stores the last count later."""
    set_interval(1_000.0)
    with batch(owner=user) as b:
        for _ in range(4):
            tasks.noop.enqueue()
    claimed = claim_all()
    for job in claimed[:3]:
        end(job)
    assert row(b).progress_current == 1
    version = row(b).version
    set_interval(0.0)
    run_duty("finish batches")
    assert (row(b).progress_current, row(b).progress_total, row(b).version) == (3, 4, version + 1)
    end(claimed[3], succeeds=False)
    set_interval(1_000.0)
    retry([b.id])
    assert (row(b).state, row(b).progress_current) == ("running", 3), "The time of its end does not count."


def test_ended_batches_are_not_counted_again(user, transactional_db, set_interval, django_assert_num_queries):
    """The progress of one that has ended since is not stored."""
    set_interval(1_000.0)
    with batch(owner=user):
        for _ in range(3):
            tasks.noop.enqueue()
    for job in claim_all():
        end(job)
    with django_assert_num_queries(1):
        run_duty("finish batches")
