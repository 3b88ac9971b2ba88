"""``sync/``: the changes of a stream over HTTP."""

import pytest

from notifications.api import notify
from notifications.inbox import read_numbered_position
from tests.data.rows import job, unnumbered
from tests.http.conftest import assert_problem
from tests.support.duties import run_duty

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.nightly_on_postgres]

SYNC = "/notifications/api/sync/"


def test_snapshot(user_client, user):
    """Without a position: the newest notifications in the order of raised, and the active jobs."""
    notify(user, "first")
    notify(user, "second")
    active = job(user)
    frame = user_client.get(SYNC).json()
    assert list(frame) == ["op", "epoch", "prev", "seq", "reset", "more", "unread", "unseen", "items", "jobs"]
    assert (frame["op"], frame["epoch"]) == ("sync", read_numbered_position(user.pk).epoch)
    assert (frame["prev"], frame["seq"], frame["reset"], frame["more"]) == (None, 2, True, False)
    assert [item["title"] for item in frame["items"]] == ["first", "second"]
    assert (frame["unread"], [item["id"] for item in frame["jobs"]]) == (2, [str(active.pk)])


def test_changes_since_a_position(user_client, user):
    for title in ("first", "second", "third"):
        notify(user, title)
    frame = user_client.get(SYNC, {"epoch": read_numbered_position(user.pk).epoch, "seq": 1}).json()
    assert (frame["prev"], frame["seq"], frame["reset"]) == (1, 3, False)
    assert [item["seq"] for item in frame["items"]] == [2, 3]
    frame = user_client.get(SYNC, {"epoch": read_numbered_position(user.pk).epoch, "seq": 3}).json()
    assert (frame["prev"], frame["seq"], frame["items"]) == (3, 3, [])


@pytest.mark.parametrize("query", [{"epoch": "another", "seq": 1}, {"seq": 1}, {"epoch": "x"}])
def test_unusable_positions_get_a_snapshot(query, user_client, user):
    """Another epoch, or only one of the two parameters."""
    notify(user, "note")
    assert user_client.get(SYNC, query).json()["reset"] is True


def test_positions_beyond_the_head_get_a_snapshot(user_client, user):
    assert (
        user_client.get(SYNC, {"epoch": read_numbered_position(user.pk).epoch, "seq": 7}).json()["reset"]
        is True
    )


def test_changes_come_in_parts(user_client, user):
    """A frame has at most 200 items, and ``more`` until the last one."""
    notify([user.pk], "first")
    unnumbered(user.pk, 250)
    run_duty("number pending changes")
    frame = user_client.get(SYNC, {"epoch": read_numbered_position(user.pk).epoch, "seq": 1}).json()
    assert (len(frame["items"]), frame["seq"], frame["more"], "jobs" in frame) == (200, 201, True, False)
    frame = user_client.get(SYNC, {"epoch": read_numbered_position(user.pk).epoch, "seq": 201}).json()
    assert (len(frame["items"]), frame["seq"], frame["more"], frame["jobs"]) == (50, 251, False, [])


def test_snapshot_numbers_pending_rows(user_client, user):
    """Rows that another process has committed but not numbered are included."""
    unnumbered(user.pk, 1)
    frame = user_client.get(SYNC).json()
    assert (frame["seq"], len(frame["items"])) == (1, 1)


@pytest.mark.parametrize("seq", ["x", "", "-1", "1.5", "1e3", "9007199254740992", "٣", "9" * 30])
def test_invalid_seq(seq, user_client):
    assert (
        assert_problem(user_client.get(SYNC, {"epoch": "e", "seq": seq}), 422)["errors"][0]["field"] == "seq"
    )


def test_changes_of_other_users_are_not_shown(user_client, other_user):
    notify(other_user, "theirs")
    job(other_user)
    frame = user_client.get(SYNC).json()
    assert (frame["seq"], frame["items"], frame["jobs"], frame["unread"]) == (0, [], [], 0)
