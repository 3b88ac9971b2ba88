"""What a connected client is told: the snapshot, what it missed, and what happens from then on."""

from notifications.api import notify
from tests.realtime.conftest import in_thread


async def test_hello_without_a_position_starts_from_a_snapshot(connect, user):
    """Welcome first, then a reset with the newest notifications and no active jobs."""
    first, second = [(await in_thread(notify, user, title))[0] for title in ("first", "second")]
    socket = await connect(user)
    socket.say("hello")
    welcome = await socket.hear("welcome")
    assert welcome == {
        "op": "welcome",
        "n": 1,
        "subscriber": welcome["subscriber"],
        "protocol": 1,
        "beat": 25,
    }
    sync = await socket.hear("sync")
    assert list(sync) == ["op", "n", "epoch", "prev", "seq", "reset", "more", "unread", "items", "jobs"]
    assert (sync["n"], sync["prev"], sync["seq"], sync["reset"], sync["more"]) == (2, None, 2, True, False)
    assert (sync["unread"], sync["jobs"]) == (2, [])
    assert [item["id"] for item in sync["items"]] == [str(first), str(second)]


async def test_a_notification_is_pushed(connect, user):
    """What is recorded while a client is connected comes as one change that follows its position."""
    socket = await connect(user)
    assert (await socket.start())["seq"] == 0
    [id] = await in_thread(
        notify, user, "Export ready", body="12,400 rows", url="/exports/7/", level="success"
    )
    change = await socket.hear("change")
    assert list(change) == ["op", "n", "prev", "seq", "unread", "items"]
    assert (change["n"], change["prev"], change["seq"], change["unread"]) == (3, 0, 1, 1)
    [item] = change["items"]
    assert item == {
        "kind": "notification",
        "id": str(id),
        "seq": 1,
        "raised": 1,
        "level": "success",
        "category": "",
        "title": "Export ready",
        "body": "12,400 rows",
        "url": "/exports/7/",
        "job": None,
        "created_at": item["created_at"],
        "read_at": None,
        "archived_at": None,
        "data": {},
    }
    assert item["created_at"].endswith("Z")
