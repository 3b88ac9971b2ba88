"""`manage.py doctor`: each failure is found and printed with its remedy, and the exit code is 1."""

import json
from datetime import timedelta
from io import StringIO

import pytest
from django.contrib.auth import get_user_model
from django.core.management import CommandError, call_command
from django.db import OperationalError, connection
from django.utils import timezone

from notifications import outbound
from notifications.jobs.claiming import queues
from notifications.jobs.worker import lease
from notifications.management.diagnosis import database, processes
from notifications.models import Job, Notification, Stream, Worker
from notifications.realtime.doorbell import channel_layer
from notifications.streams import inbox, recount
from tests.jobs import tasks
from tests.jobs.conftest import gate, live_worker, short_join_idle, start_worker  # noqa: F401 (fixtures)

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.database_law]


@pytest.fixture
def ada():
    return get_user_model().objects.create_user("ada")


@pytest.fixture(autouse=True)
def short_timeouts(monkeypatch):
    monkeypatch.setattr(database, "NUMBERING_SECONDS", 0.3)
    monkeypatch.setattr(processes, "SLOW_ROUND_TRIP_SECONDS", 0.3)


def diagnose(*arguments, failed=()):
    """Return the findings by check. Exactly the checks in ``failed`` must fail."""
    out = StringIO()
    if failed:
        with pytest.raises(CommandError, match=f"failed: {', '.join(failed)}.$"):
            call_command("doctor", "--json", *arguments, stdout=out)
    else:
        call_command("doctor", "--json", *arguments, stdout=out)
    found = {each["check"]: each for each in map(json.loads, out.getvalue().splitlines())}
    assert tuple(check for check, each in found.items() if each["state"] == "error") == tuple(failed)
    for each in found.values():
        assert each["message"] and bool(each["remedy"]) == (each["state"] != "ok"), each
    return found


def test_all_checks_pass(start_worker, ada, monkeypatch):  # noqa: F811
    """A worker runs the job of the round trip; the same without --json."""
    monkeypatch.setattr(processes, "SLOW_ROUND_TRIP_SECONDS", 30.0)
    inbox.create_notifications(ada, "Hello")
    start_worker()
    found = diagnose("--origin", "http://testserver")
    assert {each["state"] for each in found.values()} == {"ok"}
    assert list(found)[-1] == "round trip" and found["round trip"]["figures"]["ms"] > 0
    assert Job.objects.get().state == "succeeded"
    out = StringIO()
    call_command("doctor", stdout=out)
    assert [line.split()[0] for line in out.getvalue().splitlines()] == ["ok"] * 10


def test_without_a_worker(live_worker):  # noqa: F811
    """A warning while no job waits, an error once one has waited. A paused queue does not count."""
    found = diagnose()
    assert found["workers"]["state"] == "warning" and "no worker" in found["round trip"]["message"]
    live_worker(-1)
    id = tasks.noop.enqueue().id
    assert diagnose()["workers"]["figures"]["due"] == 1
    Job.objects.filter(id=id).update(queued_at=timezone.now() - timedelta(seconds=60))
    found = diagnose(failed=["workers"])
    assert 60 <= found["workers"]["figures"]["oldest_waits_seconds"] < 120
    # A job that was queued earlier may be due only now.
    long_ago, a_moment = timezone.now() - timedelta(hours=1), timezone.now() - timedelta(milliseconds=1)
    later = tasks.noop.enqueue().id
    Job.objects.filter(id=later).update(queued_at=long_ago, run_after=a_moment)
    assert 60 <= diagnose(failed=["workers"])["workers"]["figures"]["oldest_waits_seconds"] < 120
    Job.objects.filter(id=later).delete()
    Job.objects.filter(id=id).update(run_after=timezone.now() + timedelta(hours=1))
    assert diagnose()["workers"]["figures"]["due"] == 0
    Job.objects.filter(id=id).update(run_after=None)
    queues.pause("default")
    assert diagnose()["workers"]["figures"]["paused"] == ["default"]


def test_a_worker_that_does_nothing(live_worker):  # noqa: F811
    live_worker(60)
    found = diagnose("--timeout", "0.1", failed=["round trip"])
    assert "within 0.1 s" in found["round trip"]["message"]


def test_a_worker_of_other_queues(start_worker):  # noqa: F811
    """The job goes to a queue that a worker takes."""
    start_worker(queues=["mail"])
    diagnose()
    assert Job.objects.get().queue_name == "mail"


def test_a_queue_that_no_worker_takes(live_worker):  # noqa: F811
    """A live worker takes other queues."""
    Worker.objects.filter(id=live_worker(60)).update(queues="mail,reports")
    tasks.noop.using(queue_name="forgotten").enqueue()
    assert diagnose("--timeout", "0.1", failed=["round trip"])["workers"]["state"] == "ok"
    Job.objects.filter(queue_name="forgotten").update(queued_at=timezone.now() - timedelta(seconds=60))
    found = diagnose("--timeout", "0.1", failed=["workers", "round trip"])
    assert found["workers"]["message"].startswith("No live worker takes the jobs of forgotten; 1 live")


def test_changes_that_no_process_numbers(ada):
    inbox.create_notifications(ada, "Hello")
    Notification.objects.update(seq=None)
    found = diagnose(failed=["numbering"])
    assert found["numbering"]["figures"] == {"waiting": 1}


@pytest.mark.parametrize("how", ["the stream", "a row"])
def test_a_wrong_count_is_found_and_corrected(ada, how):
    """Of that user only. The rows are numbered again, so that browsers get them."""
    bob = get_user_model().objects.create_user("bob")
    inbox.create_notifications([ada, bob], "One")
    inbox.create_notifications(ada, "Two")
    if how == "the stream":
        Stream.objects.filter(user=ada).update(unread=7)
    else:  # as another program would
        Notification.objects.filter(user=ada, title="One").update(read_at=timezone.now())
    found = diagnose(failed=["unread"])
    right = 2 if how == "the stream" else 1
    assert found["unread"]["figures"]["wrong"] == {str(ada.pk): [7 if how == "the stream" else 2, right]}
    head = Stream.objects.get(user=ada).head
    diagnose("--recount")
    stream = Stream.objects.get(user=ada)
    assert stream.unread == right and stream.head == head + (how == "a row")
    assert Stream.objects.get(user=bob).unread == 1
    assert not recount.find_wrong_counts()


def test_pending_rows_are_not_a_wrong_count(ada):
    inbox.create_notifications(ada, "One")
    Notification.objects.update(read_at=timezone.now(), seq=None)
    assert not recount.find_wrong_counts()


def test_a_table_is_missing(monkeypatch):
    """The later checks do not run."""
    from django.db.migrations.recorder import MigrationRecorder

    applied = MigrationRecorder.applied_migrations
    monkeypatch.setattr(
        MigrationRecorder,
        "applied_migrations",
        lambda self: {
            key: value for key, value in applied(self).items() if key[1] < "0002" or key[0] != "notifications"
        },
    )
    found = diagnose(failed=["tables"])
    assert list(found)[-1] == "tables" and "notifications.0003_job_engines" in found["tables"]["message"]
    with pytest.raises(CommandError, match=r"Nothing was corrected.*manage.py migrate"):
        call_command("doctor", "--recount")


def test_the_database_is_away(monkeypatch):
    def away():
        raise OperationalError("could not\nconnect")

    monkeypatch.setattr(database, "connection", away)
    found = diagnose(failed=["database"])
    assert list(found) == ["versions", "database"] and "could not connect" in found["database"]["message"]


def test_clocks(monkeypatch):
    monkeypatch.setattr(database, "database_now", lambda: timezone.now() + timedelta(seconds=90))
    assert "+90" in diagnose()["clock"]["message"]


def test_a_layer_that_is_away(settings, monkeypatch):
    monkeypatch.setattr(channel_layer, "TIMEOUT_SECONDS", 0.5)
    settings.CHANNEL_LAYERS = {
        "default": {
            "BACKEND": "channels_redis.core.RedisChannelLayer",
            "CONFIG": {"hosts": ["redis://127.0.0.1:9/0"]},
        }
    }
    assert "RedisChannelLayer" in diagnose(failed=["doorbell"])["doorbell"]["message"]


def test_a_layer(settings, redis):
    settings.CHANNEL_LAYERS = {
        "default": {"BACKEND": "channels_redis.core.RedisChannelLayer", "CONFIG": {"hosts": [redis.url]}}
    }
    assert diagnose()["doorbell"]["figures"]["ms"] > 0


def test_a_renewal_stores_the_overview_of_outbound_calls():
    held = lease.Lease(queues=(), concurrency=1, load=lambda: 0)
    held._insert_row()
    assert held._extend()
    assert json.loads(Worker.objects.get().outbound)["busy"] == 0


def test_outbound_calls(live_worker, monkeypatch):  # noqa: F811
    """Each worker stores an overview of its calls in its row; an open circuit is named."""
    Worker.objects.filter(id=live_worker()).update(outbound=lease._outbound_overview())
    assert diagnose("--timeout", "0.1", failed=["round trip"])["outbound"]["state"] == "ok"
    circuit = outbound.overview.circuits.get("https://api.example.com").shared
    try:
        circuit._open("it fails")
        Worker.objects.update(outbound=lease._outbound_overview())
    finally:
        outbound.overview.circuits.reset()
    found = diagnose("--timeout", "0.1", failed=["round trip"])["outbound"]
    assert found["state"] == "warning" and "https://api.example.com" in found["message"]


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
    found = diagnose("--origin", page, failed=["origin"] if state == "error" else [])
    assert found["origin"]["state"] == state


def test_a_timeout_of_zero():
    with pytest.raises(CommandError, match="--timeout is 0"):
        call_command("doctor", "--timeout", "0")


def test_sqlite_with_default_options(monkeypatch):
    """The warning has the options to paste."""
    if connection.vendor != "sqlite":
        pytest.skip("PostgreSQL has no such options.")
    monkeypatch.setitem(connection.settings_dict, "OPTIONS", {})
    finding = database.check_connection()
    assert finding.state == "warning"
    assert "database is locked" in finding.message
    assert '"transaction_mode": "IMMEDIATE"' in finding.remedy


def test_an_index_is_missing():
    """It was dropped, or a build of PostgreSQL was interrupted. Claims on SQLite name their index."""
    with connection.cursor() as cursor:
        cursor.execute("DROP INDEX notifications_job_queued")
    try:
        finding = database.check_tables()
        assert finding.state == "error" and finding.figures == {
            "missing_indexes": ["notifications_job_queued"]
        }
    finally:
        with connection.schema_editor() as editor:
            editor.add_index(Job, next(i for i in Job._meta.indexes if i.name == "notifications_job_queued"))
    assert database.check_tables().state == "ok"
