"""Items and frames as texts."""

import json
from datetime import UTC, datetime, timedelta, timezone
from uuid import UUID

import pytest
from django.urls import get_script_prefix, set_script_prefix
from django.utils import translation

from notifications import paths
from notifications.models import Job, Notification
from notifications.realtime import frames

ID = UUID("0190163D-8694-739B-AEA5-966C26F8AD91")
LOWER = "0190163d-8694-739b-aea5-966c26f8ad91"


def a_job(**fields):
    """An unsaved job with what the database would have given it."""
    now = datetime(2026, 1, 2, 3, 4, 5, 600, tzinfo=UTC)
    return Job(id=ID, task_path="shop.tasks.export", title="Export", **{"created_at": now, **fields})


def test_the_item_of_a_job_has_all_keys():
    """Also what has not come yet."""
    assert frames.item(a_job()) == {
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
        "run_after": None,
        "error": None,
        "url": None,
        "links": {
            "self": f"/notifications/api/jobs/{LOWER}/",
            "result": None,
            "cancel": paths.job_path("api-job-cancel", ID),
            "retry": None,
        },
    }


def test_the_item_of_a_notification_has_all_keys():
    """The id is lower case, data an object, the url null where there is none."""
    row = Notification(
        id=ID,
        seq=7,
        raised=3,
        title="Hello",
        data='{"a":[1]}',
        job=ID,
        created_at=datetime(2026, 1, 2, tzinfo=UTC),
    )
    assert frames.item(row) == {
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


def test_what_waits_for_its_number_is_shown_with_what_it_had():
    """A notification with its raised, a job with 0."""
    now = datetime(2026, 1, 2, tzinfo=UTC)
    assert frames.item(Notification(id=ID, seq=None, raised=3, title="x", created_at=now))["seq"] == 3
    assert frames.item(a_job(seq=None, state="failed"))["seq"] == 0


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
def test_links_say_what_can_be_done(state, done, links):
    """The result when there is one; cancel while it is active; retry when it failed or was cancelled."""
    offered = {"self", "result"} | {
        name for name in ("cancel", "retry") if paths.job_path(f"api-job-{name}", ID)
    }
    item = frames.item(a_job(state=state))
    assert item["done"] == done
    assert {name for name, link in item["links"].items() if link} == links & offered


def test_progress_and_error_are_objects():
    """total may be null; the error is the problem as it was stored."""
    item = frames.item(
        a_job(
            state="failed", progress_current=0, error='{"type":"about:blank","title":"Failed","detail":"x"}'
        )
    )
    assert item["progress"] == {"current": 0, "total": None, "message": ""}
    assert item["error"] == {"type": "about:blank", "title": "Failed", "detail": "x"}


def test_links_are_the_same_in_every_thread_and_language(settings):
    """Below FORCE_SCRIPT_NAME, whatever the request that is served right now came in by."""
    set_script_prefix("/of/a/request/")
    try:
        with translation.override("de"):
            assert paths.job_path("api-job", ID) == f"/notifications/api/jobs/{LOWER}/"
            settings.FORCE_SCRIPT_NAME = "/app"
            assert paths.job_path("api-job", ID) == f"/app/notifications/api/jobs/{LOWER}/"
            settings.ROOT_URLCONF = "tests.realtime.translated_urls"
            assert paths.job_path("api-job", ID) == f"/app/en/notifications/api/jobs/{LOWER}/"
            assert get_script_prefix() == "/of/a/request/"
    finally:
        set_script_prefix("/")


def test_times_are_utc_with_z(settings):
    """Also those with another offset, and those of a project without time zones, which are in its own."""
    assert (
        frames.rfc3339(datetime(2026, 7, 1, 12, tzinfo=timezone(timedelta(hours=2))))
        == "2026-07-01T10:00:00Z"
    )
    settings.TIME_ZONE = "Europe/Berlin"
    assert frames.rfc3339(datetime(2026, 7, 1, 12, 0, 0, 5)) == "2026-07-01T10:00:00.000005Z"


def test_texts_are_strict_json():
    """Compact, UTF-8 as it is, and no NaN."""
    assert frames.encode({"a": "ä\u2028", "b": [1, None]}) == '{"a":"ä\u2028","b":[1,null]}'
    with pytest.raises(ValueError, match="not JSON compliant"):
        frames.encode(float("nan"))


def test_sizes_are_bytes():
    """Of UTF-8, not characters."""
    frame = frames.Frame("jobs", '"ä"}')
    assert frame.size(12) == len(frame.text(12, ack=False).encode())
    assert frames.size(["ä", "a"]) == 5


def test_a_frame_for_http_has_no_number():
    """Its keys are those of the numbered one, without n."""
    frame = frames.sync("e1", None, 3, 1, ["{}"], [])
    assert json.loads(frames.unnumbered(frame)) == {
        "op": "sync",
        "epoch": "e1",
        "prev": None,
        "seq": 3,
        "reset": True,
        "more": False,
        "unread": 1,
        "items": [{}],
        "jobs": [],
    }
    assert "jobs" not in json.loads(frames.unnumbered(frames.sync("e1", 1, 3, 1, ["{}"], None)))
