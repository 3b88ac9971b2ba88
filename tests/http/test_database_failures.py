"""The database is unavailable, full, or loses the answer to a COMMIT: 503, and the job is stored or not."""

import pytest
from django.contrib.auth.models import Group
from django.db import connection, connections
from django.test import Client

from notifications.models import Job
from notifications.testing import run_jobs
from tests.faults.test_disk_full import disk, fill_disk  # noqa: F401 (a fixture)
from tests.http.conftest import BROWSER, assert_problem
from tests.http.test_idempotency import assert_replay, count_rows, post
from tests.support.faults.statement_faults import lose_commit_response

pytestmark = pytest.mark.django_db(transaction=True)


def assert_unavailable(response):
    assert_problem(response, 503)
    assert 0 < int(response["Retry-After"]) < 60


def use_database(settings):
    """Point this process to another database. The fixture restores the settings."""
    connection.close()
    connection.settings_dict.update(settings)


@pytest.fixture
def other_database():
    before = dict(connection.settings_dict)
    yield use_database
    connection.close()
    connection.settings_dict.clear()
    connection.settings_dict.update(before)


@pytest.mark.parametrize("path", ["/plain/", "/async/"])
def test_commit_without_an_answer(path, user_client):
    """The job is stored and runs. A repeated request finds it by the key."""
    lose_commit_response(connection)
    assert_unavailable(post(user_client, path))
    assert count_rows() == (1, 1)
    again = post(user_client, path)
    assert (again.status_code, again["Idempotency-Replayed"], count_rows()) == (202, "true", (1, 1))
    assert run_jobs() == 1


def test_commit_of_the_project_without_an_answer(user_client, monkeypatch):
    """The COMMIT is the project's, and so is the 500. A repeated request finds the job by the key."""
    monkeypatch.setitem(connections.settings["default"], "ATOMIC_REQUESTS", True)
    lose_commit_response(connection)
    assert post(user_client).status_code == 500
    assert count_rows() == (1, 1)
    assert post(user_client)["Idempotency-Replayed"] == "true"


def test_disk_full(user_client, disk, other_database):  # noqa: F811
    """503 and nothing is stored, but jobs can be read. With free space the same request succeeds."""
    if connection.vendor != "sqlite":
        pytest.skip("It is SQLite's disk.")
    place = disk / "site.sqlite3"
    with connection.cursor() as cursor:  # without the room that larger tests have left in the file
        cursor.execute("VACUUM INTO %s", [str(place)])
    other_database({"NAME": str(place)})
    there = post(user_client, key={}).json()
    with connection.cursor() as cursor:
        cursor.execute("PRAGMA wal_checkpoint(TRUNCATE)")  # or there is room in its log
    filler = fill_disk(disk)
    for path in ("/plain/", "/async/"):
        assert_unavailable(post(user_client, path))
    assert user_client.get(there["links"]["self"]).json()["id"] == there["id"]
    assert_unavailable(user_client.post(there["links"]["cancel"]))
    assert count_rows() == (1, 1)
    filler.unlink()
    first = post(user_client)
    assert "Idempotency-Replayed" not in first
    Job.objects.filter(pk=there["id"]).delete()
    Group.objects.order_by("id").first().delete()
    assert_replay(first, post(user_client))


@pytest.mark.parametrize("saves_sessions", [False, True])
def test_database_unavailable(user_client, other_database, settings, saves_sessions):
    """503 for the API and for pages, also when the user cannot be read. Later requests succeed.

    ``SESSION_SAVE_EVERY_REQUEST`` does not turn it into a 500, as saving the session fails too.
    """
    settings.SESSION_SAVE_EVERY_REQUEST = saves_sessions
    sqlite = connection.vendor == "sqlite"
    before = dict(connection.settings_dict)
    other_database({"NAME": "/nowhere/at.sqlite3"} if sqlite else {"HOST": "127.0.0.1", "PORT": 1})
    for path in ("/plain/", "/async/"):
        assert_unavailable(post(user_client, path))
    for path in ("jobs/", "notifications/", "sync/", "events/", "jobs/00000000-0000-0000-0000-000000000000/"):
        assert_unavailable(user_client.get(f"/notifications/api/{path}"))
    assert_unavailable(user_client.post("/notifications/api/notifications/read/", {}, "application/json"))
    assert user_client.get("/notifications/", headers=BROWSER).status_code == 503
    connection.settings_dict.update(before)
    connection.close()
    assert count_rows() == (0, 0)
    assert post(user_client).status_code == 202
    assert post(Client()).status_code == 202
