"""The API for notifications: list them, mark them."""

import json
import uuid
from datetime import timedelta

import pytest
from django.db import connection
from django.utils import timezone, translation

from notifications.api import notify
from notifications.inbox import read_numbered_position
from notifications.models import Notification, Stream, uuid7
from notifications.streams import marking
from tests.data.conftest import OtherConnection
from tests.data.rows import unnumbered
from tests.data.shapes import position
from tests.http.conftest import assert_problem
from tests.support.duties import run_duty

pytestmark = pytest.mark.django_db(transaction=True)

NOTIFICATIONS = "/notifications/api/notifications/"
READ = "/notifications/api/notifications/read/"
SEEN = "/notifications/api/notifications/seen/"


@pytest.fixture
def user_client(client_of, user):
    """Return a client of ``user`` whose CSRF tokens are checked."""
    return client_of(user, enforce_csrf_checks=True)


@pytest.fixture
def post_read(user_client):
    """Return a function that posts JSON to notifications/read/ with a valid CSRF token."""

    def post(body, url=READ, **options):
        token = "a" * 32
        user_client.cookies["csrftoken"] = token
        text = body if isinstance(body, str | bytes) else json.dumps(body)
        return user_client.post(
            url, text, **{"content_type": "application/json", "headers": {"X-CSRFToken": token}, **options}
        )

    return post


class TestList:
    def test_newest_first_with_stream_position(self, user_client, user):
        """The position is read before the rows, so a client that resumes from it misses no change."""
        notify(user, "first", data={"n": 1}, url="/there/", category="c", level="warning", body="words")
        notify(user, "second")
        data = user_client.get(NOTIFICATIONS).json()
        assert list(data) == ["items", "next", "epoch", "seq", "unread", "unseen"]
        assert (data["next"], data["epoch"], data["seq"], data["unread"]) == (
            None,
            read_numbered_position(user.pk).epoch,
            2,
            2,
        )
        assert [item["title"] for item in data["items"]] == ["second", "first"]
        item = data["items"][1]
        assert (item["data"], item["url"], item["category"], item["level"]) == (
            {"n": 1},
            "/there/",
            "c",
            "warning",
        )
        assert item["created_at"].endswith("Z")

    def test_pages(self, user_client, user):
        """``next`` continues after the page. A notification that is read in between is shown once."""
        ids = [str(notify(user, f"note {number}")[0]) for number in range(5)]
        first = user_client.get(NOTIFICATIONS, {"limit": 2}).json()
        marking.mark(user.pk, "read", 5, [Notification.objects.get(raised=3).pk])
        second = user_client.get(NOTIFICATIONS, {"limit": 2, "after": first["next"]}).json()
        third = user_client.get(NOTIFICATIONS, {"limit": 2, "after": second["next"]}).json()
        pages = [[item["id"] for item in page["items"]] for page in (first, second, third)]
        assert pages == [[ids[4], ids[3]], [ids[2], ids[1]], [ids[0]]]
        assert third["next"] is None

    def test_filters(self, user_client, user):
        """Archived notifications are left out by default."""
        for title, key, category in (("a", "k", ""), ("b", "", "x"), ("c", "k", ""), ("d", "", "")):
            notify(user, title, key=key, category=category)
        marking.mark(user.pk, "read", 10**6, [Notification.objects.get(title="d").pk])

        def titles(**query):
            return "".join(item["title"] for item in user_client.get(NOTIFICATIONS, query).json()["items"])

        assert titles() == titles(archived=0) == "dcb"
        assert titles(archived=1) == "a"
        assert (titles(unread=1), titles(unread=0)) == ("cb", "d")
        assert (titles(category="x"), titles(category="x", unread=0)) == ("b", "")
        assert titles(category="") == "dc"
        Notification.objects.filter(title="b").update(open_question=uuid.uuid4())
        assert (titles(questions=1), titles(questions=1, category="")) == ("b", "")
        assert titles(questions=0) == "dcb"

    def test_level(self, user_client, user):
        """``level`` can be combined with the other filters."""
        for title, level, category in (("a", "info", "x"), ("b", "error", "x"), ("c", "error", "")):
            notify(user, title, level=level, category=category)

        def titles(**query):
            return "".join(item["title"] for item in user_client.get(NOTIFICATIONS, query).json()["items"])

        assert (titles(level="error"), titles(level="warning")) == ("cb", "")
        assert titles(level="error", category="x", unread=1) == "b"

    def test_rare_category(self, user_client, user, set_bounds):
        """Pages may have few items or none, because each searches a bounded number. The last one has no ``next``."""
        set_bounds(searched=4)
        for number in range(1, 12):
            notify(user, f"note {number}", category="rare" if number in (2, 10) else "common")
        found, query = [], {"category": "rare", "limit": 2}
        while query.get("after", 0) is not None:
            page = user_client.get(NOTIFICATIONS, query).json()
            found.append([item["raised"] for item in page["items"]])
            query["after"] = page["next"]
        assert found == [[10], [], [2]]

    def test_groups(self, user_client, user, post_read):
        """With ``grouped=1`` each is one item, as in the inbox; ``group`` lists and marks those of one."""
        for number in range(1, 4):
            notify(user, f"Import {number}", group="Imports", level="error" if number == 2 else "success")
        notify(user, "Alone", group="One")
        for name in ("Ada", "Bob", "Ada", "Linus"):
            notify(user, f"{name} commented", group="Report 7", actor=name)
        page = user_client.get(NOTIFICATIONS, {"grouped": 1}).json()
        assert [item["title"] for item in page["items"]] == ["Linus commented", "Alone", "Import 3"]
        people, imports = (page["groups"][page["items"][number]["id"]] for number in (0, 2))
        assert len(page["groups"]) == 2
        document = user_client.get("/notifications/api/openapi.json").json()
        assert list(people) == document["components"]["schemas"]["Group"]["required"]
        assert people == {
            "key": "n:Report 7",
            "title": "Linus and 2 others",
            "body": "Linus commented",
            "count": 4,
            "more": False,
            "unread": True,
            "level": "info",
        }
        assert (imports["title"], imports["body"]) == ("Imports: 1 failed, 2 succeeded", "Import 2")
        assert (imports["count"], imports["level"]) == (3, "error")
        first = user_client.get(NOTIFICATIONS, {"grouped": 1, "limit": 1}).json()
        rest = user_client.get(NOTIFICATIONS, {"grouped": 1, "after": first["next"]}).json()
        assert first["items"] + rest["items"] == page["items"]
        assert "groups" not in user_client.get(NOTIFICATIONS).json()
        assert user_client.get(NOTIFICATIONS, {"grouped": 1, "level": "error"}).json()["groups"] == {}
        members = user_client.get(NOTIFICATIONS, {"group": imports["key"]}).json()["items"]
        assert [item["title"] for item in members] == ["Import 3", "Import 2", "Import 1"]
        response = post_read({"up_to": page["seq"], "group": imports["key"]})
        assert response.json()["unread"] == 5
        undo = response.json()["undo"]
        assert post_read(undo, url=f"{NOTIFICATIONS}unread/").json()["next"] is None
        assert Notification.objects.filter(read_at=None).count() == 8
        marking.mark(user.pk, "read", 10**6, [Notification.objects.get(title="Import 1").pk])
        undo = post_read({"up_to": page["seq"], "group": imports["key"]}).json()["undo"]
        post_read({**undo, "changed_at": undo["changed_at"] - 1}, url=f"{NOTIFICATIONS}unread/")
        assert Notification.objects.filter(read_at=None).count() == 5
        post_read(undo, url=f"{NOTIFICATIONS}unread/")
        assert Notification.objects.filter(read_at=None).count() == 7  # Not what was read before.
        post_read({"up_to": page["seq"], "group": imports["key"]})
        with translation.override("de"):
            page = user_client.get(
                NOTIFICATIONS, {"grouped": 1, "unread": 1}, headers={"accept-language": "de"}
            )
        titles = [group["title"] for group in page.json()["groups"].values()]
        assert titles == ["Linus und 2 weitere"]

    def test_limits(self, user_client, user):
        """The default is 50, the maximum 100."""
        notify(user, "first")
        unnumbered(user.pk, 120)
        assert len(user_client.get(NOTIFICATIONS).json()["items"]) == 50
        assert len(user_client.get(NOTIFICATIONS, {"limit": 100}).json()["items"]) == 100
        assert len(user_client.get(NOTIFICATIONS, {"limit": 1000}).json()["items"]) == 100

    @pytest.mark.parametrize(
        ("field", "value"),
        [
            ("limit", "0"),
            ("limit", "x"),
            ("unread", "2"),
            ("unread", "true"),
            ("archived", ""),
            ("questions", "yes"),
            ("after", "-1"),
            ("level", ""),
            ("level", "fatal"),
            ("category", "\0"),
        ],
    )
    def test_invalid_parameters(self, field, value, user_client):
        assert (
            assert_problem(user_client.get(NOTIFICATIONS, {field: value}), 422)["errors"][0]["field"] == field
        )

    def test_notifications_of_other_users_are_not_shown(self, user_client, other_user):
        notify(other_user, "theirs")
        assert user_client.get(NOTIFICATIONS).json()["items"] == []


def test_times_are_utc(user_client, user, settings):
    """The time zone of the project has no effect."""
    settings.TIME_ZONE = "Asia/Kathmandu"
    (id,) = notify(user, "note")
    data = user_client.get(NOTIFICATIONS).json()["items"][0]["created_at"]
    assert data.endswith("Z")
    assert abs(timezone.now() - Notification.objects.get(pk=id).created_at) < timedelta(minutes=1)
    assert data[:19] == Notification.objects.get(pk=id).created_at.strftime("%Y-%m-%dT%H:%M:%S")


class TestMark:
    def test_up_to(self, post_read, user):
        """Notifications raised up to the position are marked. The response has the new position."""
        for number in range(3):
            notify(user, f"note {number}")
        data = post_read({"up_to": 2})
        assert data.status_code == 200
        assert data.json() == {
            "epoch": read_numbered_position(user.pk).epoch,
            "seq": 5,
            "unread": 1,
            "unseen": 1,
            "more": False,
        }
        assert post_read({"up_to": 2}).json()["seq"] == 5, (
            "notifications that are read already must not change"
        )

    def test_ids(self, post_read, user, other_user):
        """Only the named ones are marked, and none of other users."""
        mine = [notify(user, "mine")[0] for _ in range(3)]
        (theirs,) = notify(other_user, "theirs")
        data = post_read({"up_to": 3, "ids": [str(mine[1]), str(theirs)]}).json()
        assert (data["seq"], data["unread"]) == (4, 2)
        assert Notification.objects.get(pk=mine[1]).read_at is not None
        assert Notification.objects.get(pk=theirs).read_at is None

    def test_empty_ids(self, post_read, user):
        """An empty list marks nothing, not everything."""
        notify(user, "note")
        assert post_read({"up_to": 1, "ids": []}).json()["unread"] == 1

    @pytest.mark.parametrize(
        ("fields", "marked"),
        [
            ({"category": "x"}, "bc"),
            ({"category": ""}, "a"),
            ({"level": "error"}, "bd"),
            ({"category": "x", "level": "error"}, "b"),
            ({"category": "x", "level": None}, "bc"),
            ({"category": "none"}, ""),
            ({"after": 2}, "cd"),
        ],
        ids=str,
    )
    def test_filters(self, fields, marked, post_read, user, other_user):
        """Each verb changes what category and level select, of this user and up to the position, and nothing else."""
        for title, category, level in (
            *(("a", "", "info"), ("b", "x", "error"), ("c", "x", "info"), ("d", "y", "error")),
            ("later", "x", "error"),
        ):
            notify([user, other_user], title, category=category, level=level)

        def changed(**condition):
            return "".join(
                Notification.objects.exclude(**condition).order_by("raised").values_list("title", flat=True)
            )

        for verb, inverse, column in (
            ("read", "unread", "read_at"),
            ("archive", "unarchive", "archived_at"),
        ):
            data = post_read({"up_to": 4, **fields}, f"{NOTIFICATIONS}{verb}/").json()
            assert changed(**{column: None}) == marked
            assert (data["more"], data["next"]) == (False, None)
            assert (data["unread"], data["seq"]) == (5 - len(marked), Stream.objects.get(pk=user.pk).head)
            post_read({"up_to": 4, **fields}, f"{NOTIFICATIONS}{inverse}/")
            assert changed(**{column: None}) == ""
        assert not Notification.objects.filter(seq=None).exists()

    def test_filter_of_ids(self, post_read, user):
        ids = [str(notify(user, "note", category=category)[0]) for category in ("x", "y", "x")]
        data = post_read({"up_to": 3, "ids": ids[:2], "category": "x"}).json()
        assert (data["unread"], data["next"]) == (2, None)
        assert Notification.objects.get(pk=ids[0]).read_at is not None

    def test_limit_of_one_filtered_request(self, post_read, user, set_marking):
        """A request reads and changes a bounded number of rows. ``next`` is where the following one continues."""
        set_marking(MAX_ROWS_EXAMINED=4)
        set_marking(MAX_MARKED_ROWS=2)
        for number in range(1, 13):
            notify(user, f"note {number}", category="x" if number in (1, 2, 3, 12) else "")
        marking.mark(user.pk, "archive", 12, [Notification.objects.get(raised=2).pk])
        steps, body = [], {"up_to": 12, "category": "x"}
        while body.get("after", 0) is not None:
            data = post_read(body).json()
            read = Notification.objects.exclude(read_at=None).order_by("raised")
            steps.append((list(read.values_list("raised", flat=True)), data["next"]))
            assert data["more"] is (data["next"] is not None)
            body["after"] = data["next"]
        assert steps == [([1, 2], 2), ([1, 2, 3], 6), ([1, 2, 3], 10), ([1, 2, 3, 12], None)]

    def test_notifications_after_up_to_stay_unread(self, post_read, user):
        """A notification that the client has not seen is not marked, even if it is named."""
        notify(user, "seen")
        (new,) = notify(user, "new")
        assert post_read({"up_to": 1, "ids": [str(new)]}).json()["unread"] == 2

    def test_limit_of_one_request(self, post_read, user):
        """At most 1,000, the oldest first. ``more`` tells that some are left."""
        unnumbered(user.pk, 1_050)
        run_duty("number pending changes")
        data = post_read({"up_to": 1_050}).json()
        assert (data["unread"], data["more"], data["seq"]) == (50, True, 2_050)
        assert set(Notification.objects.filter(read_at=None).values_list("raised", flat=True)) == set(
            range(1001, 1051)
        )
        data = post_read({"up_to": 1_050}).json()
        assert (data["unread"], data["more"]) == (0, False)
        assert not Notification.objects.filter(seq=None).exists()

    @pytest.mark.parametrize(
        ("body", "field"),
        [
            ({}, "up_to"),
            ({"up_to": None}, "up_to"),
            ({"up_to": "1"}, "up_to"),
            ({"up_to": True}, "up_to"),
            ({"up_to": 1.0}, "up_to"),
            ({"up_to": -1}, "up_to"),
            ({"up_to": 2}, "up_to"),
            ({"up_to": 1, "ids": "x"}, "ids"),
            ({"up_to": 1, "ids": ["x"]}, "ids"),
            ({"up_to": 1, "ids": [1]}, "ids"),
            ({"up_to": 1, "ids": [str(uuid7())] * 201}, "ids"),
            ({"up_to": 1, "ids": {}}, "ids"),
            ({"up_to": 1, "category": 1}, "category"),
            ({"up_to": 1, "category": "\0"}, "category"),
            ({"up_to": 1, "category": "\ud800"}, "category"),
            ({"up_to": 1, "level": ""}, "level"),
            ({"up_to": 1, "level": ["info"]}, "level"),
            ({"up_to": 1, "after": "1"}, "after"),
            ({"up_to": 1, "after": False}, "after"),
        ],
    )
    def test_invalid_values(self, body, field, post_read, user):
        """422 that names the field, also for a position beyond the head."""
        notify(user, "note")
        assert assert_problem(post_read(body), 422)["errors"][0]["field"] == field
        assert position(user) == (1, 1)

    @pytest.mark.parametrize("body", [" ", "{", "NaN", '{"up_to": Infinity}', b"\xff", "[" * 100_000])
    def test_invalid_json(self, body, post_read):
        assert_problem(post_read(body), 400)

    @pytest.mark.parametrize("body", ["[]", "1", "null", '"x"'])
    def test_json_that_is_no_object(self, body, post_read):
        assert_problem(post_read(body), 422)

    def test_unsupported_content_type(self, post_read):
        assert_problem(post_read("{}", content_type="text/plain"), 415)
        assert_problem(post_read("up_to=1", content_type="application/x-www-form-urlencoded"), 415)

    def test_content_type_with_charset(self, post_read):
        assert post_read('{"up_to": 0}', content_type="Application/JSON; charset=UTF-8").status_code == 200

    def test_too_large(self, post_read):
        """413 over 1 MiB."""
        assert_problem(post_read('{"up_to": 0, "x": "' + "x" * 1024 * 1024 + '"}'), 413)
        assert post_read('{"up_to": 0, "x": "' + "x" * 1024 * 1000 + '"}').status_code == 200

    def test_body_limit_of_the_project(self, post_read, settings):
        """DATA_UPLOAD_MAX_MEMORY_SIZE of the project applies too, as 413."""
        settings.DATA_UPLOAD_MAX_MEMORY_SIZE = 10
        assert_problem(post_read('{"up_to": 0, "more": 1}'), 413)

    def test_unknown_keys_are_ignored(self, post_read):
        """A newer client may send more keys."""
        assert post_read({"up_to": 0, "later": True}).status_code == 200

    def test_locked_row(self, post_read, user):
        """503 with Retry-After when another transaction holds the row for 5 s. Nothing is stored."""
        if connection.vendor != "postgresql":
            pytest.skip("SQLite has no locks on rows. Run with --database postgres.")
        (id,) = notify(user, "held")
        other_transaction = OtherConnection()
        try:
            other_transaction.begin()
            other_transaction.do(lambda: Notification.objects.select_for_update().get(pk=id))
            response = post_read({"up_to": 1})
            assert_problem(response, 503)
            assert int(response["Retry-After"]) > 0
        finally:
            other_transaction.close()
        assert position(user) == (1, 1)


class TestSeen:
    def test_up_to(self, post_read, user):
        """What was raised up to the position is seen and stays unread. The response has the new position."""
        for number in range(3):
            notify(user, f"note {number}")
        data = post_read({"up_to": 2}, SEEN)
        assert data.status_code == 200
        assert data.json() == {
            "epoch": read_numbered_position(user.pk).epoch,
            "seq": 4,
            "unread": 3,
            "unseen": 1,
            "more": False,
        }
        assert not Notification.objects.exclude(read_at=None).exists()

    @pytest.mark.parametrize("up_to", [0, 1, 2])
    def test_lower_position(self, up_to, post_read, user):
        """It changes nothing, and the response is the present position."""
        for number in range(3):
            notify(user, f"note {number}")
        post_read({"up_to": 2}, SEEN)
        data = post_read({"up_to": up_to}, SEEN).json()
        assert (data["seq"], data["unseen"]) == (4, 1)

    def test_list_and_other_marks_have_the_count(self, post_read, user_client, user):
        notify(user, "shown")
        notify(user, "new")
        post_read({"up_to": 1}, SEEN)
        assert user_client.get(NOTIFICATIONS).json()["unseen"] == 1
        assert post_read({"up_to": 2}).json()["unseen"] == 0

    @pytest.mark.parametrize("up_to", [None, "1", True, 1.0, -1, 2])
    def test_invalid_position(self, up_to, post_read, user):
        """422 that names the field, also for a position beyond the head."""
        notify(user, "note")
        assert assert_problem(post_read({"up_to": up_to}, SEEN), 422)["errors"][0]["field"] == "up_to"
        assert position(user) == (1, 1)

    def test_other_users(self, post_read, user, other_user):
        notify([user, other_user], "both")
        post_read({"up_to": 1}, SEEN)
        assert Stream.objects.get(pk=other_user.pk).unseen == 1
