"""`manage.py notifications doctor` finds each failure, prints it with its remedy, and exits with 1."""

import json
from datetime import timedelta
from io import StringIO

import pytest
from django.core.management import CommandError, call_command
from django.db import OperationalError, connection
from django.utils import timezone

from notifications import outbound
from notifications.api import notify
from notifications.management import pause_queue
from notifications.models import Job, Notification, Stream, Worker
from notifications.streams import rebuilding
from notifications.streams.marking_seen import mark_seen
from notifications.worker import Lease
from tests.jobs import tasks
from tests.jobs.conftest import gate, live_worker, short_join_idle, start_worker  # noqa: F401 (fixtures)
from tests.support.statements import preceded
from tests.test_checks import unapplied_migration

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.database_law]


@pytest.fixture
def set_slow(set_bounds):
    """set_slow(seconds) says from when on a round trip is slow."""
    return lambda seconds: set_bounds(checks=seconds)


@pytest.fixture
def two_queues(set_bounds):
    """Two queues are looked at."""
    set_bounds(shown=2)


@pytest.fixture(autouse=True)
def short_timeouts(set_slow):
    set_slow(0.3)


def diagnose(*arguments, failed=()):
    """Return the findings by check, after checking that exactly the checks in `failed` have failed.

    Where no worker is alive, the check of workers fails too, as --live does.
    """
    out, error = StringIO(), ""
    try:
        call_command("notifications", "doctor", "--json", *arguments, stdout=out)
    except CommandError as exc:
        error = str(exc)
    findings = {finding["check"]: finding for finding in map(json.loads, out.getvalue().splitlines())}
    errors = [check for check, finding in findings.items() if finding["state"] == "error"]
    assert error == (f"Checks failed: {', '.join(errors)}." if errors else "")
    is_without_worker = "No worker is alive" in findings.get("workers", {}).get("message", "")
    assert {*errors} == {*failed, *({"workers"} & {*errors} if is_without_worker else ())}
    for finding in findings.values():
        assert finding["message"] and bool(finding["remedy"]) == (finding["state"] != "ok"), finding
    return findings


def test_all_checks_pass(start_worker, user, set_slow):  # noqa: F811
    """A worker runs the job of the round trip. The output is checked with and without --json."""
    set_slow(30.0)
    notify(user, "Hello")
    start_worker()
    findings = diagnose("--origin", "http://testserver")
    assert {finding["state"] for finding in findings.values()} == {"ok"}, findings
    assert findings["round trip"]["figures"]["ms"] > 0
    assert Job.objects.get().state == "succeeded"
    out = StringIO()
    call_command("notifications", "doctor", stdout=out)
    # Without --origin.
    assert [line.split()[0] for line in out.getvalue().splitlines()] == ["ok"] * (len(findings) - 1)


def test_without_a_worker(live_worker):  # noqa: F811
    """It is an error, as of --live. Paused queues do not count."""
    findings = diagnose()
    assert findings["workers"]["state"] == "error" and "no worker" in findings["round trip"]["message"]
    live_worker(-1)
    id = tasks.noop.enqueue().id
    assert diagnose()["workers"]["figures"]["due"] == 1
    Job.objects.filter(id=id).update(queued_at=timezone.now() - timedelta(seconds=60))
    findings = diagnose(failed=["workers"])
    assert 60 <= findings["workers"]["figures"]["oldest_waits_seconds"] < 120
    # A job that was queued an hour ago and became due a millisecond ago has waited for a millisecond.
    queued_at, run_after = timezone.now() - timedelta(hours=1), timezone.now() - timedelta(milliseconds=1)
    scheduled = tasks.noop.enqueue().id
    Job.objects.filter(id=scheduled).update(queued_at=queued_at, run_after=run_after, due_at=run_after)
    assert 60 <= diagnose(failed=["workers"])["workers"]["figures"]["oldest_waits_seconds"] < 120
    Job.objects.filter(id=scheduled).delete()
    Job.objects.filter(id=id).update(
        run_after=timezone.now() + timedelta(hours=1), due_at=timezone.now() + timedelta(hours=1)
    )
    assert diagnose()["workers"]["figures"]["due"] == 0
    Job.objects.filter(id=id).update(run_after=None, due_at=None)
    pause_queue("default")
    assert diagnose()["workers"]["figures"]["paused"] == ["default"]


def test_a_worker_that_runs_no_job(live_worker):  # noqa: F811
    live_worker(60)
    findings = diagnose("--timeout", "0.1", failed=["round trip"])
    assert "within 0.1 s" in findings["round trip"]["message"]


def test_a_worker_of_other_queues(start_worker):  # noqa: F811
    """The job of the round trip is enqueued in a queue that a worker serves."""
    start_worker(queues=["mail"])
    diagnose()
    assert Job.objects.get().queue_name == "mail"


def test_a_queue_that_no_worker_serves(live_worker):  # noqa: F811
    """It is an error although a live worker serves other queues."""
    Worker.objects.filter(id=live_worker(60)).update(queues="mail,reports")
    tasks.noop.using(queue_name="forgotten").enqueue()
    assert diagnose("--timeout", "0.1", failed=["round trip"])["workers"]["state"] == "ok"
    Job.objects.filter(queue_name="forgotten").update(queued_at=timezone.now() - timedelta(seconds=60))
    findings = diagnose("--timeout", "0.1", failed=["workers", "round trip"])
    assert findings["workers"]["message"].startswith("No live worker takes the jobs of forgotten; 1 live")


def enqueue_in_queues(count, **fields):
    """Insert a queued job in each of so many queues, whose names come before those of other tests."""
    for number in range(count):
        id = tasks.noop.using(queue_name=f"a{number:02}").enqueue().id
        Job.objects.filter(id=id).update(**fields)


def test_a_paused_queue_behind_many_others(two_queues, set_bounds):
    """The counts of long queues are lower bounds."""
    enqueue_in_queues(3)
    pause_queue("mail")
    assert diagnose()["queues"]["message"] == "Paused, without jobs: mail."
    for _ in range(3):
        tasks.noop.using(queue_name="mail").enqueue()
    assert diagnose()["queues"]["message"] == "Jobs wait in paused queues: mail (3 jobs)."
    set_bounds(counted=2)
    found = diagnose()["queues"]
    assert found["message"] == "Jobs wait in paused queues: mail (at least 2 jobs)."
    for number in range(3):
        pause_queue(f"a{number:02}")
    assert diagnose()["queues"]["message"].endswith("a00 (1 jobs), a01 (1 jobs) and others.")


def test_jobs_that_wait_behind_many_queues(two_queues):
    """Queues of engines and paused ones do not count. Those beyond the limit are not passed over in silence."""
    enqueue_in_queues(3, executor="engine")
    pause_queue("b")
    for name in ("b", "c", "d"):
        tasks.noop.using(queue_name=name).enqueue()
    assert "; 2 jobs waiting" in diagnose()["workers"]["message"]
    tasks.noop.using(queue_name="e").enqueue()
    assert "; at least 2 jobs waiting" in diagnose()["workers"]["message"]


def test_changes_that_no_process_numbers(user):
    notify(user, "Hello")
    Notification.objects.update(seq=None)
    findings = diagnose(failed=["numbering"])
    assert findings["numbering"]["figures"] == {"waiting": 1}


@pytest.mark.parametrize("changed", ["unread", "unseen", "notification"])
def test_a_wrong_count_is_found_and_corrected(user, other_user, changed):
    """Only that user's rows are numbered again, so that browsers receive them."""
    notify([user, other_user], "One")
    notify(user, "Two")
    mark_seen(user.pk, 1)
    right = {"unread": 2, "unseen": 1}
    if changed != "notification":
        stored, expected = right | {changed: 7}, right
        Stream.objects.filter(user=user).update(**{changed: 7})
    else:  # As by another program, which does not change the count.
        Notification.objects.filter(user=user, title="Two").update(read_at=timezone.now())
        stored, expected = right, {"unread": 1, "unseen": 0}
    findings = diagnose(failed=["unread"])
    assert findings["unread"]["figures"]["wrong"] == {
        str(user.pk): {name: [stored[name], expected[name]] for name in right}
    }
    head = Stream.objects.get(user=user).head
    diagnose("--recount")
    stream = Stream.objects.get(user=user)
    assert {"unread": stream.unread, "unseen": stream.unseen} == expected
    assert stream.head == head + (changed == "notification")
    assert Stream.objects.get(user=other_user).unread == 1
    assert not rebuilding.find_wrong_counts()


def test_pending_rows_are_not_a_wrong_count(user):
    notify(user, "One")
    Notification.objects.update(read_at=timezone.now(), seq=None)
    assert not rebuilding.find_wrong_counts()


def test_a_table_is_missing(monkeypatch):
    """The checks after it do not run."""
    from django.db.migrations.recorder import MigrationRecorder

    applied = MigrationRecorder.applied_migrations
    monkeypatch.setattr(
        MigrationRecorder,
        "applied_migrations",
        lambda self: {key: value for key, value in applied(self).items() if key[0] != "notifications"},
    )
    findings = diagnose(failed=["tables"])
    assert list(findings)[-1] == "tables" and "notifications.0001_streams" in findings["tables"]["message"]
    with pytest.raises(CommandError, match=r"Nothing was corrected.*manage.py migrate"):
        call_command("notifications", "doctor", "--recount")


def test_an_unavailable_database():
    def fail():
        raise OperationalError("could not\nconnect")

    with preceded("", fail, times=None):
        findings = diagnose(failed=["database"])
    assert (
        list(findings) == ["versions", "settings", "database"]
        and "could not connect" in findings["database"]["message"]
    )


def test_a_clock_difference(jobs_clock):
    jobs_clock.advance(90)
    assert "+90" in diagnose()["W013"]["message"]


def test_an_unavailable_channel_layer(settings, set_bounds):
    set_bounds(checks=0.5)
    settings.CHANNEL_LAYERS = {
        "default": {
            "BACKEND": "channels_redis.core.RedisChannelLayer",
            "CONFIG": {"hosts": ["redis://127.0.0.1:9/0"]},
        }
    }
    assert "RedisChannelLayer" in diagnose(failed=["doorbell"])["doorbell"]["message"]


def test_a_channel_layer(settings, redis):
    settings.CHANNEL_LAYERS = {
        "default": {"BACKEND": "channels_redis.core.RedisChannelLayer", "CONFIG": {"hosts": [redis.url]}}
    }
    assert diagnose()["doorbell"]["figures"]["ms"] > 0


def test_postgresql_as_the_doorbell():
    """tests/realtime/doorbell/test_pgbouncer.py has it behind a pooler, where no ring arrives."""
    if connection.vendor != "postgresql":
        pytest.skip("It is PostgreSQL's LISTEN.")
    assert 0 < diagnose()["doorbell"]["figures"]["ms"] < 5000


def test_a_renewal_stores_the_overview_of_outbound_calls():
    worker_lease = Lease(queues=(), concurrency=1, load=lambda: 0)
    worker_lease._insert_row()
    assert worker_lease._extend()
    assert json.loads(Worker.objects.get().outbound)["busy"] == 0


def test_outbound_calls():
    """Each worker stores an overview of its calls in its row. The message has the origin of an open circuit."""
    worker_lease = Lease(queues=(), concurrency=1, load=lambda: 0)
    worker_lease._insert_row()
    worker_lease._extend()
    assert diagnose("--timeout", "0.1", failed=["round trip"])["outbound"]["state"] == "ok"
    circuit = outbound.overview.circuits.get("https://api.example.com").shared
    try:
        circuit.open("it fails")
        worker_lease._extend()
    finally:
        outbound.overview.circuits.reset()
    finding = diagnose("--timeout", "0.1", failed=["round trip"])["outbound"]
    assert finding["state"] == "warning" and "https://api.example.com" in finding["message"]


@pytest.mark.parametrize(
    ("page", "state"),
    [
        ("http://testserver", "ok"),
        ("https://shop.example", "ok"),
        ("https://other.example", "error"),
        ("testserver", "error"),
        ("http://testserver/page", "error"),
    ],
)
def test_origins(settings, page, state):
    settings.ALLOWED_HOSTS = ["testserver"]
    settings.NOTIFICATIONS = {**settings.NOTIFICATIONS, "ORIGINS": ["https://shop.example"]}
    findings = diagnose("--origin", page, failed=["origin"] if state == "error" else [])
    assert findings["origin"]["state"] == state


def test_a_timeout_of_zero():
    with pytest.raises(CommandError, match="--timeout is 0"):
        call_command("notifications", "doctor", "--timeout", "0")


def test_sqlite_with_default_options(monkeypatch):
    """The warning has the recommended options."""
    if connection.vendor != "sqlite":
        pytest.skip("PostgreSQL has no such options.")
    monkeypatch.setitem(connection.settings_dict, "OPTIONS", {})
    warning = diagnose()["database"]
    assert "database is locked" in warning["message"]
    assert '"transaction_mode": "IMMEDIATE"' in warning["remedy"]


def test_an_index_is_missing():
    """It was dropped, or its creation on PostgreSQL was interrupted. Claims on SQLite fail without their index."""
    with connection.cursor() as cursor:
        cursor.execute("DROP INDEX notifications_job_queued")
    try:
        assert "missing: notifications_job_queued." in diagnose(failed=["W012"])["W012"]["message"]
    finally:
        with connection.schema_editor() as editor:
            editor.add_index(Job, next(i for i in Job._meta.indexes if i.name == "notifications_job_queued"))
    assert diagnose()["tables"]["state"] == "ok"


def test_a_probe(live_worker, monkeypatch):  # noqa: F811
    """`--live` exits with 0 if the site is ready and with 1 otherwise. It enqueues no job."""
    assert diagnose("--live", failed=["ready"])["ready"]["remedy"].startswith("Start one: manage.py run_jobs")
    live_worker()
    assert list(diagnose("--live")) == ["ready"]
    assert not Job.objects.exists()
    with unapplied_migration() as name:
        found = diagnose("--live", failed=["ready"])["ready"]
    assert name in found["message"] and found["remedy"] == "Run manage.py migrate."
    with pytest.raises(CommandError, match="--live checks nothing else"):
        call_command("notifications", "doctor", "--live", "--recount")


def test_a_silenced_system_check(settings):
    """It is not printed, and does not fail."""
    settings.TASKS = {"default": {**settings.TASKS["default"], "OPTIONS": {"limits": {"mail": "few"}}}}
    assert "limits" in diagnose(failed=["W009"])["W009"]["message"]
    settings.SILENCED_SYSTEM_CHECKS = ["notifications.W009"]
    assert diagnose()["settings"]["state"] == "ok"
