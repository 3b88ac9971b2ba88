"""Notifications and jobs as JSON."""

import json
from datetime import UTC, datetime, timedelta, timezone
from uuid import UUID

import pytest
from django.conf.urls.i18n import i18n_patterns
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.urls import get_script_prefix, include, path, set_script_prefix
from django.utils import translation

from notifications import serializers, times
from notifications.inbox import job_path, read_numbered_position
from notifications.models import Job, Notification
from notifications.streams import changes
from tests.realtime import rows

ID = UUID("0190163D-8694-739B-AEA5-966C26F8AD91")
LOWER = "0190163d-8694-739b-aea5-966c26f8ad91"
#: Of a project whose paths begin with the language.
urlpatterns = i18n_patterns(path("notifications/", include("notifications.urls")))


def build_job(**fields):
    """Return an unsaved job with the values that the database sets."""
    now = datetime(2026, 1, 2, 3, 4, 5, 600, tzinfo=UTC)
    return Job(id=ID, task_path="shop.tasks.export", title="Export", **{"created_at": now, **fields})


def test_job_item_has_all_keys():
    """Including those without a value yet."""
    assert serializers.serialize(build_job()) == {
        "kind": "job",
        "id": LOWER,
        "seq": 0,
        "version": 1,
        "title": "Export",
        "task": "shop.tasks.export",
        "state": "queued",
        "done": False,
        "attempt": 0,
        "max_attempts": 1,
        "progress": None,
        "created_at": "2026-01-02T03:04:05.000600Z",
        "started_at": None,
        "finished_at": None,
        "expires_at": None,
        "run_after": None,
        "error": None,
        "url": None,
        "waiting": None,
        "links": {
            "self": f"/notifications/api/jobs/{LOWER}/",
            "result": None,
            "cancel": job_path(ID, "api-job-cancel"),
            "retry": None,
        },
    }


def test_notification_item_has_all_keys():
    """The id is lower case, data an object, an empty url null."""
    row = Notification(
        id=ID,
        seq=7,
        raised=3,
        title="Hello",
        data='{"a":[1]}',
        job=ID,
        created_at=datetime(2026, 1, 2, tzinfo=UTC),
    )
    assert serializers.serialize(row) == {
        "kind": "notification",
        "id": LOWER,
        "seq": 7,
        "raised": 3,
        "level": "info",
        "category": "",
        "title": "Hello",
        "body": "",
        "url": None,
        "job": LOWER,
        "created_at": "2026-01-02T00:00:00Z",
        "read_at": None,
        "archived_at": None,
        "data": {"a": [1]},
    }


def test_seq_of_rows_that_are_not_numbered():
    """A notification has its first seq, a job has 0."""
    now = datetime(2026, 1, 2, tzinfo=UTC)
    assert (
        serializers.serialize(Notification(id=ID, seq=None, raised=3, title="x", created_at=now))["seq"] == 3
    )
    assert serializers.serialize(build_job(seq=None, state="failed"))["seq"] == 0


@pytest.mark.parametrize(
    ("state", "done", "links"),
    [
        ("queued", False, {"self", "cancel"}),
        ("running", False, {"self", "cancel"}),
        ("succeeded", True, {"self", "result"}),
        ("failed", True, {"self", "retry"}),
        ("cancelled", True, {"self", "retry"}),
    ],
)
def test_links_are_the_possible_actions(state, done, links):
    """The result when there is one; cancel while it is active; retry when it failed or was cancelled."""
    available = {"self", "result"} | {name for name in ("cancel", "retry") if job_path(ID, f"api-job-{name}")}
    item = serializers.serialize(build_job(state=state))
    assert item["done"] == done
    assert {name for name, link in item["links"].items() if link} == links & available


def test_progress_and_error_are_objects():
    """total may be null; the error is the stored problem."""
    item = serializers.serialize(
        build_job(
            state="failed", progress_current=0, error='{"type":"about:blank","title":"Failed","detail":"x"}'
        )
    )
    assert item["progress"] == {"current": 0, "total": None, "message": ""}
    assert item["error"] == {"type": "about:blank", "title": "Failed", "detail": "x"}


def test_links_are_the_same_in_every_thread_and_language(settings):
    """Below FORCE_SCRIPT_NAME, independent of the current request."""
    set_script_prefix("/of/a/request/")
    try:
        with translation.override("de"):
            assert job_path(ID, "api-job") == f"/notifications/api/jobs/{LOWER}/"
            settings.FORCE_SCRIPT_NAME = "/app"
            assert job_path(ID, "api-job") == f"/app/notifications/api/jobs/{LOWER}/"
            settings.ROOT_URLCONF = __name__
            assert job_path(ID, "api-job") == f"/app/en/notifications/api/jobs/{LOWER}/"
            assert get_script_prefix() == "/of/a/request/"
    finally:
        set_script_prefix("/")


def test_times_are_utc_with_z(settings):
    """Also times with another offset, and naive times of a project without time zones."""
    assert (
        times.format_time(datetime(2026, 7, 1, 12, tzinfo=timezone(timedelta(hours=2))))
        == "2026-07-01T10:00:00Z"
    )
    settings.TIME_ZONE = "Europe/Berlin"
    assert times.format_time(datetime(2026, 7, 1, 12, 0, 0, 5)) == "2026-07-01T10:00:00.000005Z"


def test_json_is_strict():
    """Compact, with unescaped UTF-8, and without NaN."""
    assert serializers.encode_json({"a": "ä\u2028", "b": [1, None]}) == '{"a":"ä\u2028","b":[1,null]}'
    with pytest.raises(ValueError, match="not JSON compliant"):
        serializers.encode_json(float("nan"))


def test_encoded_size_is_in_bytes():
    """Of UTF-8, not characters, with a comma for each text."""
    assert serializers.encoded_size(["ä", "a"]) == 5


def test_item_within_limits_is_not_changed():
    """Values that the app itself can write are not replaced."""
    row = Notification(id="0190163d-8694-739b-aea5-966c26f8ad91", seq=1, raised=1, title="ä" * 200)
    row.data = json.dumps({"x": "\0", "y": 2**53})
    assert json.loads(serializers.encode_item(row)) == serializers.serialize(row)


@pytest.mark.django_db(transaction=True)
def test_rows_are_shown_as_models_are(user):
    """What is read without models makes the same items, with every column that an item shows."""
    job = rows.job(user)
    rows.notices(user, 1)
    at = times.now()
    values = {"level": "error", "category": "c", "body": "b", "url": "/u/", "data": '{"a": 1}', "job": job.pk}
    full = {
        **values,
        "read_at": at,
        "archived_at": at + timedelta(hours=1),
        "returned_at": at + 2 * timedelta(hours=1),
    }
    for changed in (values, full, {**full, "returned_at": None}):
        rows.notices(user, 1)
        Notification.objects.filter(pk=Notification.objects.latest("seq").pk).update(**changed)
    missed = changes.read_missed({user.pk: [0]})[user.pk, 0]
    models = Notification.objects.order_by("seq")
    assert len(missed.rows) == 4
    assert [*map(serializers.encode_item, missed.rows)] == [*map(serializers.encode_item, models)]


@pytest.mark.nightly_names("*[210-*", on="postgres")
@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("state", Job.State.values)
@pytest.mark.parametrize("count", [10, 210])
def test_items_are_made_of_what_was_read(user, user_client, state, count):
    """Encoding takes no query, in no state: the links of 100 failed jobs took 100. 210 are further than one read."""
    jobs = rows.jobs(user, count)
    is_active = state in (Job.State.QUEUED, Job.State.RUNNING)
    if is_active:
        Job.objects.update(state=state)
    else:
        for job in jobs:
            rows.finish(job, state)
    position = {"epoch": read_numbered_position(user.pk).epoch, "seq": 0}
    with CaptureQueriesContext(connection) as queries:
        frame = user_client.get("/notifications/api/sync/", position).json()
    found = frame["jobs" if is_active else "items"]
    assert len(found) >= 10 and {item["state"] for item in found} == {state}
    assert len(queries) < 10
