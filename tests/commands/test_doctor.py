"""`manage.py doctor`: each thing that is wrong is found, said with its remedy, and ends with exit code 1."""

import json
from datetime import timedelta
from io import StringIO

import pytest
from django.contrib.auth import get_user_model
from django.core.management import CommandError, call_command
from django.db import OperationalError, connection
from django.utils import timezone

from notifications import outbound
from notifications.diagnosis import database, processes
from notifications.jobs.claiming import queues
from notifications.jobs.worker import lease
from notifications.models import Job, Notification, Stream, Worker
from notifications.realtime.doorbell import channel_layer
from notifications.streams import inbox, recount
from tests.jobs import tasks
from tests.jobs.conftest import gate, live, nobody_listens, start_worker  # noqa: F401 (fixtures)

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.database_law]


@pytest.fixture
def ada():
    return get_user_model().objects.create_user("ada")


@pytest.fixture(autouse=True)
def hurried(monkeypatch):
    monkeypatch.setattr(database, "LEFT", 0.3)
    monkeypatch.setattr(processes, "SLOW", 0.3)


def examine(*words, wrong=()):
    """Returns what was found, by what was looked at. Exactly these (``wrong``) must be wrong."""
    out = StringIO()
    if wrong:
        with pytest.raises(CommandError, match=f"wrong: {', '.join(wrong)}.$"):
            call_command("doctor", "--json", *words, stdout=out)
    else:
        call_command("doctor", "--json", *words, stdout=out)
    found = {each["what"]: each for each in map(json.loads, out.getvalue().splitlines())}
    assert tuple(what for what, each in found.items() if each["state"] == "error") == tuple(wrong)
    for each in found.values():
        assert each["words"] and bool(each["remedy"]) == (each["state"] != "ok"), each
    return found


def test_all_is_well(start_worker, ada, monkeypatch):  # noqa: F811
    """A worker runs the probe, whose end is heard; in words too."""
    monkeypatch.setattr(processes, "SLOW", 30.0)
    inbox.create_notifications(ada, "Hello")
    start_worker()
    found = examine("--origin", "http://testserver")
    assert {each["state"] for each in found.values()} == {"ok"}
    assert list(found)[-1] == "round trip" and found["round trip"]["figures"]["ms"] > 0
    assert Job.objects.get().state == "succeeded"
    out = StringIO()
    call_command("doctor", stdout=out)
    assert [line.split()[0] for line in out.getvalue().splitlines()] == ["ok"] * 10


def test_without_a_worker(live):  # noqa: F811
    """It is only said while nobody waits; and it is wrong once a job has waited. A paused queue waits for nobody."""
    found = examine()
    assert found["workers"]["state"] == "warning" and "no worker" in found["round trip"]["words"]
    live(-1)
    id = tasks.noop.enqueue().id
    assert examine()["workers"]["figures"]["due"] == 1
    Job.objects.filter(id=id).update(queued_at=timezone.now() - timedelta(seconds=60))
    found = examine(wrong=["workers"])
    assert 60 <= found["workers"]["figures"]["oldest_waits_seconds"] < 120
    # What was asked for earlier may only be due now.
    long_ago, a_moment = timezone.now() - timedelta(hours=1), timezone.now() - timedelta(milliseconds=1)
    later = tasks.noop.enqueue().id
    Job.objects.filter(id=later).update(queued_at=long_ago, run_after=a_moment)
    assert 60 <= examine(wrong=["workers"])["workers"]["figures"]["oldest_waits_seconds"] < 120
    Job.objects.filter(id=later).delete()
    Job.objects.filter(id=id).update(run_after=timezone.now() + timedelta(hours=1))
    assert examine()["workers"]["figures"]["due"] == 0
    Job.objects.filter(id=id).update(run_after=None)
    queues.pause("default")
    assert examine()["workers"]["figures"]["paused"] == ["default"]


def test_a_worker_that_does_nothing(live):  # noqa: F811
    live(60)
    found = examine("--patience", "0.1", wrong=["round trip"])
    assert "within 0.1 s" in found["round trip"]["words"]


def test_a_worker_of_other_queues(start_worker):  # noqa: F811
    """The probe goes where somebody looks."""
    start_worker(queues=["mail"])
    examine()
    assert Job.objects.get().queue_name == "mail"


def test_a_queue_that_no_worker_takes(live):  # noqa: F811
    """One is alive, and takes others."""
    Worker.objects.filter(id=live(60)).update(queues="mail,reports")
    tasks.noop.using(queue_name="forgotten").enqueue()
    assert examine("--patience", "0.1", wrong=["round trip"])["workers"]["state"] == "ok"
    Job.objects.filter(queue_name="forgotten").update(queued_at=timezone.now() - timedelta(seconds=60))
    found = examine("--patience", "0.1", wrong=["workers", "round trip"])
    assert found["workers"]["words"].startswith("No live worker takes the jobs of forgotten; 1 live")


def test_nobody_numbers(ada):
    inbox.create_notifications(ada, "Hello")
    Notification.objects.update(seq=None)
    found = examine(wrong=["numbers"])
    assert found["numbers"]["figures"] == {"waiting": 1}


@pytest.mark.parametrize("how", ["the stream", "a row"])
def test_a_wrong_count_is_found_and_mended(ada, how):
    """Of that user only; what the browser has stays right, because the rows are numbered anew."""
    bob = get_user_model().objects.create_user("bob")
    inbox.create_notifications([ada, bob], "One")
    inbox.create_notifications(ada, "Two")
    if how == "the stream":
        Stream.objects.filter(user=ada).update(unread=7)
    else:  # what the SQL of somebody else's script does
        Notification.objects.filter(user=ada, title="One").update(read_at=timezone.now())
    found = examine(wrong=["unread"])
    right = 2 if how == "the stream" else 1
    assert found["unread"]["figures"]["wrong"] == {str(ada.pk): [7 if how == "the stream" else 2, right]}
    head = Stream.objects.get(user=ada).head
    examine("--recount")
    stream = Stream.objects.get(user=ada)
    assert stream.unread == right and stream.head == head + (how == "a row")
    assert Stream.objects.get(user=bob).unread == 1
    assert not recount.find_wrong_counts()


def test_rows_that_wait_for_their_number_are_no_wrong_count(ada):
    inbox.create_notifications(ada, "One")
    Notification.objects.update(read_at=timezone.now(), seq=None)
    assert not recount.find_wrong_counts()


def test_a_table_is_missing(monkeypatch):
    """Nothing behind it can be looked at."""
    from django.db.migrations.recorder import MigrationRecorder

    applied = MigrationRecorder.applied_migrations
    monkeypatch.setattr(
        MigrationRecorder,
        "applied_migrations",
        lambda self: {
            key: value for key, value in applied(self).items() if key[1] < "0002" or key[0] != "notifications"
        },
    )
    found = examine(wrong=["tables"])
    assert list(found)[-1] == "tables" and "notifications.0002_engine" in found["tables"]["words"]
    with pytest.raises(CommandError, match=r"Nothing is counted.*manage.py migrate"):
        call_command("doctor", "--recount")


def test_the_database_is_away(monkeypatch):
    def away():
        raise OperationalError("could not\nconnect")

    monkeypatch.setattr(database, "connection", away)
    found = examine(wrong=["database"])
    assert list(found) == ["versions", "database"] and "could not connect" in found["database"]["words"]


def test_clocks(monkeypatch):
    monkeypatch.setattr(database, "database_now", lambda: timezone.now() + timedelta(seconds=90))
    assert "+90" in examine()["clock"]["words"]


def test_a_layer_that_is_away(settings, monkeypatch):
    monkeypatch.setattr(channel_layer, "TIMEOUT_SECONDS", 0.5)
    settings.CHANNEL_LAYERS = {
        "default": {
            "BACKEND": "channels_redis.core.RedisChannelLayer",
            "CONFIG": {"hosts": ["redis://127.0.0.1:9/0"]},
        }
    }
    assert "RedisChannelLayer" in examine(wrong=["doorbell"])["doorbell"]["words"]


def test_a_layer(settings, redis):
    settings.CHANNEL_LAYERS = {
        "default": {"BACKEND": "channels_redis.core.RedisChannelLayer", "CONFIG": {"hosts": [redis.url]}}
    }
    assert examine()["doorbell"]["figures"]["ms"] > 0


def test_a_renewal_says_what_the_calls_do():
    held = lease.Lease(queues=(), concurrency=1, load=lambda: 0)
    held._insert_row()
    assert held._extend()
    assert json.loads(Worker.objects.get().outbound)["busy"] == 0


def test_calls_to_others(live, monkeypatch):  # noqa: F811
    """Each worker says in its row what its calls do; an open circuit is named."""
    Worker.objects.filter(id=live()).update(outbound=lease._outbound_overview())
    assert examine("--patience", "0.1", wrong=["round trip"])["outbound"]["state"] == "ok"
    circuit = outbound.overview.circuits.get("https://api.example.com").shared
    try:
        circuit._open("it fails")
        Worker.objects.update(outbound=lease._outbound_overview())
    finally:
        outbound.overview.circuits.reset()
    found = examine("--patience", "0.1", wrong=["round trip"])["outbound"]
    assert found["state"] == "warning" and "https://api.example.com" in found["words"]


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
    found = examine("--origin", page, wrong=["origin"] if state == "error" else [])
    assert found["origin"]["state"] == state


def test_a_patience_that_is_none():
    with pytest.raises(CommandError, match="--patience is 0"):
        call_command("doctor", "--patience", "0")


def test_sqlite_with_default_options(monkeypatch):
    """Doctor says what may fail, and has the options to paste."""
    if connection.vendor != "sqlite":
        pytest.skip("PostgreSQL has no such options.")
    monkeypatch.setitem(connection.settings_dict, "OPTIONS", {})
    finding = database.reach()
    assert finding.state == "warning"
    assert "database is locked" in finding.words
    assert '"transaction_mode": "IMMEDIATE"' in finding.remedy


def test_an_index_is_missing():
    """Somebody dropped it, or a build of PostgreSQL broke off. Claims on SQLite name theirs."""
    with connection.cursor() as cursor:
        cursor.execute("DROP INDEX notifications_job_queued")
    try:
        finding = database.migrated()
        assert finding.state == "error" and finding.figures == {
            "missing_indexes": ["notifications_job_queued"]
        }
    finally:
        with connection.schema_editor() as editor:
            editor.add_index(Job, next(i for i in Job._meta.indexes if i.name == "notifications_job_queued"))
    assert database.migrated().state == "ok"
