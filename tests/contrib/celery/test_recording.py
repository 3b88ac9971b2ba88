"""Starts and ends of observed tasks are recorded together, and each only if it holds."""

import threading
import uuid
from dataclasses import replace
from datetime import timedelta

import pytest
from django.db import InterfaceError, OperationalError, connection, transaction
from django.db.models import F
from django.test.utils import CaptureQueriesContext

from notifications import times
from notifications.api import batch
from notifications.jobs import ObservedAttempt, Observer, Policy
from notifications.models import Attempt, Job, Notification
from tests.extension import faulty
from tests.jobs import tasks
from tests.support.outcomes import error_type, failed, observer, succeeded
from tests.support.statements import refused
from tests.support.threads import run_in_threads

POLICY, RETRYING = Policy(max_attempts=1), Policy(retry_on=ValueError)

pytestmark = pytest.mark.django_db(transaction=True)


def new_row(user=None, **fields):
    """Return the unsaved row of the message of an observed task."""
    now = times.now()
    values = {"task_path": "shop.tasks.export", "title": "Export", "executor": "observed"}
    values |= {"queue_name": "celery", "created_at": now, "queued_at": now, "id": uuid.uuid4()}
    return Job(user=user, **values | fields)


def attempt_at(row, *, number=1, value=None, is_ended=True, **options):
    """Return an attempt at the job of a row, in a worker that has its own copy of it."""
    job = Job(**{field.attname: getattr(row, field.attname) for field in Job._meta.concrete_fields})
    job.state, job.attempt = "running", number
    options = {"worker": uuid.uuid4(), "make_job": lambda: job, "policy": Policy(max_attempts=1)} | options
    attempt = ObservedAttempt(id=job.id, number=number, **options)
    if is_ended:
        end(attempt, value)
    return attempt


def end(attempt, value=None):
    """Have an attempt end with a value."""
    attempt.remake = lambda job: succeeded(job, value, attempt.policy)
    attempt.outcome = attempt.remake(attempt.job)


def guess(job, kind="worker-lost"):
    """Fail a job as a worker does that finds no trace of its task."""
    assert observer.end(observer.failed_as(observer.read(job.id), Policy(max_attempts=1), kind))
    assert Job.objects.get(id=job.id).state == "failed"


def titles(user):
    return list(Notification.objects.filter(user=user).order_by("seq").values_list("title", flat=True))


def count_statements(user, number):
    rows = [new_row(user) for _ in range(number)]
    observer.insert(rows)
    with CaptureQueriesContext(connection) as queries:
        assert observer.record([attempt_at(row) for row in rows]) == []
    return len(queries)


def test_the_number_of_statements_does_not_depend_on_that_of_tasks(user):
    # Not counting what executemany() sends, which Django logs as one statement with the number of its rows.
    assert count_statements(user, 40) <= count_statements(user, 2)
    assert Job.objects.filter(state="succeeded", attempt=1, fence=1).count() == 42
    assert len(titles(user)) == 42


def test_one_update_for_start_and_end(user):
    """Beside a task that still runs, and one whose start was recorded before."""
    rows = [new_row(user, run_after=times.now()) for _ in range(4)]
    observer.insert(rows)
    both, running, started = (
        [attempt_at(rows[0]), attempt_at(rows[1])],
        *(attempt_at(row, is_ended=False) for row in rows[2:]),
    )
    observer.record([started])
    end(started)
    with CaptureQueriesContext(connection) as queries:
        observer.record([*both, running, started])
    statements = [query["sql"] for query in queries]
    assert len([sql for sql in statements if sql.startswith("COMMIT")]) == 1
    assert sum(sql.count("UPDATE notifications_job SET") for sql in statements) == 2
    columns = ("state", "version", "fence", "worker", "attempt", "run_after")
    found = {row["id"]: tuple(row[name] for name in columns) for row in Job.objects.values("id", *columns)}
    ended = ("succeeded", 2, 1)
    assert [found[row.id] for row in rows] == [
        (*ended, both[0].worker, 1, None),
        (*ended, both[1].worker, 1, None),
        ("running", 2, 1, running.worker, 1, None),
        ("succeeded", 3, 1, started.worker, 1, None),
    ]
    assert Job.objects.filter(started_at__lte=F("finished_at")).count() == 3


def test_start_and_end_of_one_task_in_two_groups(user):
    row = new_row(user)
    observer.insert([row])
    attempt = attempt_at(row, is_ended=False)
    observer.record([attempt])
    stored = Job.objects.get(id=row.id)
    assert (stored.state, stored.worker, stored.fence, stored.seq) == ("running", attempt.worker, 1, 0)
    end(attempt, 3)
    observer.record([attempt])
    stored.refresh_from_db()
    assert (stored.state, stored.result, stored.version, stored.started_at <= stored.finished_at) == (
        "succeeded",
        "3",
        3,
        True,
    )


def test_an_end_whose_notify_function_was_not_called_is_not_recorded(user):
    row = new_row(user)
    observer.insert([row])
    attempt = attempt_at(row, is_ended=False)
    attempt.outcome = succeeded(attempt.job, 3, Policy(notify=lambda job: 1 / 0))
    assert observer.record([attempt]) == []
    assert (Job.objects.get().state, attempt.is_begun, attempt.is_ended) == ("running", True, False)


def test_a_task_without_a_row_gets_one(user):
    """Its publisher does not use this app, was killed, or is slower than the worker."""
    row = new_row(user)
    attempt = attempt_at(row)
    observer.record([attempt])
    observer.insert([row])  # the publisher
    assert list(Job.objects.values_list("id", "state")) == [(row.id, "succeeded")]
    assert titles(user) == ["Export"]


def test_the_notification_is_that_of_the_row(user, other_user):
    """A replaced task has another title, and the header of its message may be forged."""
    row = new_row(user, title="Original")
    observer.insert([row])
    row.title, row.user = "Other", other_user
    observer.record([attempt_at(row)])
    assert (titles(user), titles(other_user)) == (["Original"], [])


def test_an_end_that_the_database_refuses_harms_no_other(user, caplog):
    rows = [new_row(user) for _ in range(3)]
    observer.insert(rows)
    attempts = [attempt_at(row) for row in rows]
    attempts[1].outcome.notification.level = None
    assert observer.record(attempts) == []
    states = {row.id: row.state for row in Job.objects.all()}
    assert [states[row.id] for row in rows] == ["succeeded", "failed", "succeeded"]
    assert '"type": "result-not-storable"' in Job.objects.get(id=rows[1].id).error
    assert len(titles(user)) == 3


def test_a_refused_end_among_many_costs_few_transactions(user):
    """Others of a group wait for all of them."""
    rows = [new_row(user) for _ in range(64)]
    observer.insert(rows)
    attempts = [attempt_at(row) for row in rows]
    attempts[20].outcome.notification.level = None
    with CaptureQueriesContext(connection) as queries:
        assert observer.record(attempts) == []
    begun = [query for query in queries if query["sql"].startswith("BEGIN")]
    assert (len(begun), Job.objects.filter(state="succeeded").count()) == (15, 63)


def test_a_start_that_a_later_one_has_replaced_cannot_end_the_job(user):
    """A message that was delivered twice."""
    row = new_row(user)
    observer.insert([row])
    first, second = attempt_at(row, is_ended=False), attempt_at(row, is_ended=False)
    observer.record([first])
    observer.record([second])
    end(first)
    observer.record([first])
    assert first.is_void
    assert (Job.objects.get().state, Job.objects.get().fence) == ("running", 2)
    assert [attempt.outcome for attempt in Attempt.objects.all()] == ["lost"]
    end(second)
    observer.record([second])
    assert titles(user) == ["Export"]


@pytest.mark.parametrize("change", ["schedule_retry", "requeue_lost"])
def test_a_start_that_a_later_one_has_replaced_cannot_queue_the_job(user, change):
    row = new_row(user, max_attempts=4)
    observer.insert([row])
    first, second = attempt_at(row, is_ended=False), attempt_at(row, is_ended=False)
    observer.record([first])
    stale = Job.objects.get()
    observer.record([second])
    if change == "schedule_retry":
        assert observer.end(failed(stale, ValueError(), RETRYING), None)
    else:
        observer.requeue_lost(stale, None)
    assert Job.objects.values_list("state", "fence", "worker").get() == ("running", 2, second.worker)
    assert [attempt.outcome for attempt in Attempt.objects.all()] == ["lost"]


def test_a_retry_after_a_requested_cancellation_ends_the_job(user):
    row = new_row(user, max_attempts=4)
    observer.insert([row])
    observer.record([attempt_at(row, is_ended=False)])
    Job.objects.update(cancel_requested_at=times.now())
    outcome = failed(Job.objects.get(), ValueError(), RETRYING)
    assert outcome.retry_delay is not None
    assert observer.end(outcome, None)
    assert Job.objects.get().state == "cancelled"


def running_row(user):
    """Return the row of a job whose start is recorded, and the outcome of an attempt that is retried."""
    observer.insert([row := new_row(user, max_attempts=4)])
    observer.record([attempt_at(row, is_ended=False)])
    return observer.retried(Job.objects.get(), ValueError(), 60)


def test_time_within_which_a_retry_is_to_start(user):
    hour = timedelta(hours=1)
    assert observer.end(running_row(user), hour)
    job = Job.objects.get()
    assert (job.state, job.expires_at - job.run_after) == ("queued", hour)


def test_a_retry_that_is_recorded_after_an_error_of_the_database(user):
    """The first try has changed the state of its job."""
    outcome = running_row(user)
    with (
        refused("UPDATE notifications_job SET expires_at", error=InterfaceError),
        pytest.raises(InterfaceError),
    ):
        observer.end(outcome)
    assert observer.end(outcome)
    assert (Job.objects.get().state, Attempt.objects.count()) == ("queued", 1)


def test_the_start_of_an_earlier_attempt_comes_too_late(user):
    row = new_row(user)
    observer.insert([row])
    retry = attempt_at(row, number=2, is_ended=False)
    observer.record([retry])
    late = attempt_at(row, number=1)
    observer.record([late])
    assert late.is_void
    assert Job.objects.values_list("state", "attempt", "fence").get() == ("running", 2, 1)


@pytest.mark.parametrize("fields", [{"state": "cancelled", "error": "{}"}, {"executor": "async"}])
def test_a_job_that_is_done_or_not_observed_is_left_alone(user, fields):
    row = new_row(user, **fields)
    row.save(force_insert=True)
    before = Job.objects.values().get()
    attempt = attempt_at(row)
    observer.record([attempt])
    assert attempt.is_void
    assert Job.objects.values().get() == before
    assert titles(user) == []


def test_a_locked_row_delays_no_other(user):
    if connection.vendor != "postgresql":
        pytest.skip("SQLite has no locks of rows.")
    rows = [new_row(user) for _ in range(2)]
    observer.insert(rows)
    attempts = [attempt_at(row) for row in rows]
    with transaction.atomic():
        list(Job.objects.filter(id=rows[0].id).select_for_update(no_key=True))
        found = []
        run_in_threads(lambda: found.extend(observer.record(attempts)))
        assert found == [attempts[0]]
    assert Job.objects.get(id=rows[1].id).state == "succeeded"
    assert observer.record([attempts[0]]) == []
    assert Job.objects.get(id=rows[0].id).state == "succeeded"


def test_a_transaction_that_fails_leaves_all_to_be_recorded(user):
    rows = [new_row(user) for _ in range(2)]
    observer.insert(rows)
    attempts = [attempt_at(row) for row in rows]
    with refused("UPDATE notifications_job SET .*finished_at"), pytest.raises(OperationalError):
        observer.record(attempts)
    assert set(Job.objects.values_list("state", flat=True)) == {"queued"}
    observer.record(attempts)
    assert set(Job.objects.values_list("state", "fence")) == {("succeeded", 1)}
    assert len(titles(user)) == 2


def test_a_row_of_the_database_is_enough(user):
    """What a message says is read only where its job has no row: that takes as long as the record."""
    row = new_row(user)
    observer.insert([row])
    made = []
    attempt = attempt_at(row, make_job=lambda: made.append(1) or row, is_ended=False)
    attempt.outcome = lambda job: succeeded(job, 3, POLICY)
    with refused("UPDATE notifications_job SET .*finished_at"), pytest.raises(OperationalError):
        observer.record([attempt])
    observer.record([attempt])
    assert Job.objects.values_list("state", "result", "fence", "worker").get() == (
        *("succeeded", "3", 1),
        attempt.worker,
    )
    assert (titles(user), attempt.job.fence, made) == (["Export"], 1, [])


def test_progress_of_an_earlier_attempt_is_not_that_of_the_next_one(user):
    row = new_row(user, progress_current=5, progress_total=9, progress_message="Half")
    observer.insert([row])
    attempt = attempt_at(row, make_job=lambda: 1 / 0, number=2, is_ended=False)
    observer.record([attempt])
    attempt.outcome = lambda job: succeeded(job, 3, POLICY)
    observer.record([attempt])
    found = Job.objects.values_list("state", "progress_current", "progress_total", "progress_message").get()
    assert found == ("succeeded", None, None, "")


def test_an_outcome_that_fails_has_its_attempt(user):
    row = new_row(user)
    observer.insert([row])
    attempt = attempt_at(row)
    attempt.outcome = replace(failed(attempt.job, ValueError("x"), POLICY), job=attempt.job)
    observer.record([attempt])
    assert Job.objects.get().state == "failed"
    assert Attempt.objects.get().exception_class_path == "builtins.ValueError"


def bell(user):
    """Return the body and whether it is archived of each notification, oldest first."""
    rows = Notification.objects.filter(user=user).order_by("seq")
    return [(row.body, row.archived_at is not None) for row in rows]


GUESSED = ("The work was interrupted and is not tried again.", True)


def test_an_end_corrects_the_guess_that_its_worker_was_lost(user):
    """The worker was suspended for longer than its lease."""
    row = new_row(user)
    observer.insert([row])
    attempt = attempt_at(row, is_ended=False)
    observer.record([attempt])
    guess(row)
    before = Job.objects.get()
    end(attempt, 3)
    observer.record([attempt])
    job = Job.objects.get()
    assert (job.state, job.result, job.error, job.attempt) == ("succeeded", "3", None, 1)
    # failed -> queued -> succeeded
    assert (job.version - before.version, job.seq > before.seq) == (2, True)
    assert bell(user) == [GUESSED, ("3", False)]
    assert attempt.is_ended


def test_a_start_corrects_the_guess_that_the_message_was_lost(user):
    row = new_row(user)
    observer.insert([row])
    guess(row, "expired")
    attempt = attempt_at(row, is_ended=False)
    observer.record([attempt])
    job = Job.objects.get()
    assert (job.state, job.error, job.seq, job.finished_at) == ("running", None, 0, None)
    end(attempt)
    observer.record([attempt])
    assert Job.objects.get().state == "succeeded"
    assert [is_archived for _, is_archived in bell(user)] == [True, False]


def test_a_start_without_an_end_does_not_correct_the_guess_that_its_worker_was_lost(user):
    """A child process that is killed may have its start recorded after the main process has recorded its end."""
    row = new_row(user)
    observer.insert([row])
    guess(row, "worker-lost")
    attempt = attempt_at(row, is_ended=False)
    assert observer.record([attempt]) == []
    assert (Job.objects.get().state, attempt.is_void) == ("failed", False)
    end(attempt)
    observer.record([attempt])
    assert Job.objects.get().state == "succeeded"
    assert [is_archived for _, is_archived in bell(user)] == [True, False]


def test_a_failure_corrects_a_guess(user):
    row = new_row(user)
    observer.insert([row])
    attempt = attempt_at(row, is_ended=False)
    observer.record([attempt])
    guess(row, "outcome-unknown")
    attempt.outcome = failed(attempt.job, ValueError("x"), POLICY)
    observer.record([attempt])
    assert error_type(Job.objects.get()) == "task-failed"
    assert [is_archived for _, is_archived in bell(user)] == [True, False]


def test_an_end_of_a_job_that_was_queued_again_for_its_lost_worker(user):
    """The worker was suspended, and its broker does not deliver the message again, which was never unacknowledged."""
    row = new_row(user)
    observer.insert([row])
    attempt = attempt_at(row, is_ended=False)
    observer.record([attempt])
    observer.requeue_lost(Job.objects.get(), None)
    end(attempt)
    observer.record([attempt])
    assert Job.objects.get().state == "succeeded"
    assert bell(user) == [("Succeeded.", False)]


@pytest.mark.parametrize("is_guessed", [True, False], ids=["failed by a guess", "queued again"])
def test_an_end_is_kept_when_the_transaction_that_restarts_its_job_is_rolled_back(user, is_guessed):
    """The database refuses the end of a neighbor in the group, so each is recorded by itself."""
    row, neighbor = new_row(user), new_row(user)
    observer.insert([row, neighbor])
    suspended = attempt_at(row, is_ended=False)
    observer.record([suspended])
    if is_guessed:
        guess(row)
    else:
        observer.requeue_lost(Job.objects.get(id=row.id), None)
    end(suspended, 3)
    refused = attempt_at(neighbor)
    refused.outcome.notification.level = None
    assert observer.record([suspended, refused]) == []
    job = Job.objects.get(id=row.id)
    assert (job.state, job.result, suspended.is_void) == ("succeeded", "3", False)
    assert Job.objects.get(id=neighbor.id).state == "failed"


def test_what_celery_reports_corrects_a_guess_once(user):
    row = new_row(user)
    observer.insert([row])
    guess(row, "outcome-unknown")
    for _ in range(2):
        job = observer.read(row.id)
        assert observer.end(observer.failed_as(job, POLICY, "expired"))
    assert error_type(Job.objects.get()) == "expired"
    assert [is_archived for _, is_archived in bell(user)] == [True, False]


@pytest.mark.parametrize("value", [ValueError("x"), None])
def test_a_real_end_is_corrected_by_nothing(user, value):
    """The message was delivered twice."""
    row = new_row(user)
    observer.insert([row])
    first = attempt_at(row)
    if value:
        first.outcome = failed(first.job, value, POLICY)
    observer.record([first])
    before = Job.objects.values().get()
    second = attempt_at(row)
    observer.record([second])
    assert second.is_void
    assert Job.objects.values().get() == before


def test_a_task_with_the_id_of_a_batch_does_not_take_it(user):
    with batch(owner=user) as b:
        tasks.noop.enqueue()
    before = Job.objects.values().get(id=b.id)
    attempt = attempt_at(new_row(user, id=b.id))
    observer.record([attempt])
    assert attempt.is_void
    assert (observer.read(b.id), Job.objects.values().get(id=b.id)) == (None, before)


def test_a_row_that_the_database_refuses_harms_no_other(user, caplog):
    rows = [new_row(user) for _ in range(4)]
    rows[1].user_id = 10**30
    observer.insert(rows)
    assert set(Job.objects.values_list("id", flat=True)) == {row.id for row in rows if row is not rows[1]}
    assert f"Could not insert the job of an observed task: job {rows[1].id}" in caplog.text


def test_notify_functions_of_remade_ends_are_called_at_once(user):
    """The message said another title than the row."""
    barrier = threading.Barrier(2)
    policy = Policy(notify=lambda job: {"title": f"{job.title} {barrier.wait(3)}"})
    rows = [new_row(user) for _ in range(2)]
    observer.insert(rows)
    attempts = [attempt_at(row, is_ended=False) for row in rows]
    for attempt in attempts:
        attempt.job.title = "Of the message"
        attempt.remake = lambda job: succeeded(job, 3, policy)
        attempt.outcome = replace(attempt.remake(attempt.job), notify=None)
    assert observer.record(attempts) == attempts
    assert observer.record(attempts) == []
    assert sorted(titles(user)) == ["Export 0", "Export 1"]


def test_notify_function_of_a_refused_end_is_not_called(user):
    """The other attempts of its group would wait for it."""
    calls = []
    row = new_row(user)
    observer.insert([row])
    attempt = attempt_at(row, value=3)
    attempt.policy = Policy(notify=calls.append)
    attempt.outcome.notification.level = None
    assert observer.record([attempt]) == []
    assert (Job.objects.get().state, calls, titles(user)) == ("failed", [], ["Export"])


def test_a_task_that_was_never_started_has_no_attempt(user):
    row = new_row(user)
    observer.insert([row])
    assert observer.end(observer.failed_as(row, POLICY, "unknown-task"))
    assert Job.objects.get().state == "failed"
    assert titles(user) == ["Export"] and not Attempt.objects.exists()


def test_a_hook_that_fails_at_an_end(user, monkeypatch):
    """It is kept, whatever the error means elsewhere, and holds up no other; it is recorded when the hook works."""
    rows = [new_row(user, title=title) for title in ("Bad", "Export")]
    observer.insert(rows)
    attempts, kept = [attempt_at(row) for row in rows], []

    def fail(outcomes, tx):
        if any(outcome.job.title == "Bad" for outcome in outcomes):
            raise FileNotFoundError("No such file.")

    extension = faulty.install(monkeypatch, "on_ends", fault=fail)
    keeping = Observer(lambda attempt, exc: kept.append(attempt))
    assert keeping.record(attempts) == kept == attempts[:1]
    assert titles(user) == ["Export"]
    extension.fault = None
    assert keeping.record(attempts) == []
    assert titles(user) == ["Export", "Bad"]
    assert set(Job.objects.values_list("state", "attempt")) == {("succeeded", 1)}
