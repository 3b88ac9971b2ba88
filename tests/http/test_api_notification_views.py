"""The API for notifications: list them, mark them."""

import json
from datetime import timedelta

import pytest
from django.db import connection
from django.utils import timezone

from notifications import streams
from notifications.api import notify
from notifications.ids import uuid7
from notifications.models import Notification
from notifications.streams import inbox
from tests.data.conftest import Elsewhere
from tests.data.rows import unnumbered
from tests.data.shapes import position
from tests.http.conftest import assert_problem

pytestmark = pytest.mark.django_db(transaction=True)

NOTIFICATIONS = "/notifications/api/notifications/"
READ = "/notifications/api/notifications/read/"


@pytest.fixture
def user_client(client_of, user):
    """Return a client of ``user`` whose CSRF tokens are checked."""
    return client_of(user, enforce_csrf_checks=True)


@pytest.fixture
def send(user_client):
    """send(body) posts JSON to notifications/read/ with Ada's CSRF token."""

    def post(body, url=READ, **options):
        token = "a" * 32
        user_client.cookies["csrftoken"] = token
        text = body if isinstance(body, str | bytes) else json.dumps(body)
        return user_client.post(
            url, text, **{"content_type": "application/json", "headers": {"X-CSRFToken": token}, **options}
        )

    return post


class TestList:
    def test_newest_first_with_the_position(self, user_client, user):
        """The position was read before the rows, so a client that goes on from it misses nothing."""
        notify(user, "first", data={"n": 1}, url="/there/", category="c", level="warning", body="words")
        notify(user, "second")
        told = user_client.get(NOTIFICATIONS).json()
        assert list(told) == ["items", "next", "epoch", "seq", "unread"]
        assert (told["next"], told["epoch"], told["seq"], told["unread"]) == (None, streams.epoch(), 2, 2)
        assert [item["title"] for item in told["items"]] == ["second", "first"]
        item = told["items"][1]
        assert (item["data"], item["url"], item["category"], item["level"]) == (
            {"n": 1},
            "/there/",
            "c",
            "warning",
        )
        assert item["created_at"].endswith("Z")

    def test_pages(self, user_client, user):
        """``next`` goes on where a page ended; a row that moves meanwhile is neither lost nor shown twice."""
        ids = [str(notify(user, f"note {number}")[0]) for number in range(5)]
        first = user_client.get(NOTIFICATIONS, {"limit": 2}).json()
        inbox.mark(user.pk, "read", 5, [Notification.objects.get(raised=3).pk])
        second = user_client.get(NOTIFICATIONS, {"limit": 2, "after": first["next"]}).json()
        third = user_client.get(NOTIFICATIONS, {"limit": 2, "after": second["next"]}).json()
        pages = [[item["id"] for item in page["items"]] for page in (first, second, third)]
        assert pages == [[ids[4], ids[3]], [ids[2], ids[1]], [ids[0]]]
        assert third["next"] is None

    def test_filters(self, user_client, user):
        """unread, archived and category; without ``archived`` the archived are left out."""
        for title, key, category in (("a", "k", ""), ("b", "", "x"), ("c", "k", ""), ("d", "", "")):
            notify(user, title, key=key, category=category)
        inbox.mark(user.pk, "read", 10**6, [Notification.objects.get(title="d").pk])

        def titles(**query):
            return "".join(item["title"] for item in user_client.get(NOTIFICATIONS, query).json()["items"])

        assert titles() == titles(archived=0) == "dcb"
        assert titles(archived=1) == "a"
        assert (titles(unread=1), titles(unread=0)) == ("cb", "d")
        assert (titles(category="x"), titles(category="x", unread=0)) == ("b", "")
        assert titles(category="") == "dc"

    def test_limits(self, user_client, user):
        """50 unless told, at most 100: more is cut."""
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
            ("after", "-1"),
        ],
    )
    def test_a_bad_value(self, field, value, user_client):
        """422 that names the field."""
        assert (
            assert_problem(user_client.get(NOTIFICATIONS, {field: value}), 422)["errors"][0]["field"] == field
        )

    def test_others_see_nothing(self, user_client, other_user):
        """An inbox is its user's own."""
        notify(other_user, "theirs")
        assert user_client.get(NOTIFICATIONS).json()["items"] == []


def test_times_are_utc(user_client, user, settings):
    """Whatever the host's time zone is."""
    settings.TIME_ZONE = "Asia/Kathmandu"
    (id,) = notify(user, "note")
    told = user_client.get(NOTIFICATIONS).json()["items"][0]["created_at"]
    assert told.endswith("Z")
    assert abs(timezone.now() - Notification.objects.get(pk=id).created_at) < timedelta(minutes=1)
    assert told[:19] == Notification.objects.get(pk=id).created_at.strftime("%Y-%m-%dT%H:%M:%S")


class TestMark:
    def test_up_to(self, send, user):
        """What was raised up to there, answered with the position after it."""
        for number in range(3):
            notify(user, f"note {number}")
        told = send({"up_to": 2})
        assert told.status_code == 200
        assert told.json() == {"epoch": streams.epoch(), "seq": 5, "unread": 1, "more": False}
        assert send({"up_to": 2}).json()["seq"] == 5, "what is read already must not move"

    def test_ids(self, send, user, other_user):
        """Only these, and none of somebody else's."""
        mine = [notify(user, "mine")[0] for _ in range(3)]
        (theirs,) = notify(other_user, "theirs")
        told = send({"up_to": 3, "ids": [str(mine[1]), str(theirs)]}).json()
        assert (told["seq"], told["unread"]) == (4, 2)
        assert Notification.objects.get(pk=mine[1]).read_at is not None
        assert Notification.objects.get(pk=theirs).read_at is None

    def test_no_ids_at_all(self, send, user):
        """An empty list is none, not all."""
        notify(user, "note")
        assert send({"up_to": 1, "ids": []}).json()["unread"] == 1

    def test_one_that_came_after_the_click_stays_unread(self, send, user):
        """``up_to`` says what was seen, also for a notification that is named."""
        notify(user, "seen")
        (new,) = notify(user, "new")
        assert send({"up_to": 1, "ids": [str(new)]}).json()["unread"] == 2

    def test_a_thousand_at_most(self, send, user):
        """The oldest first, and that there is more."""
        unnumbered(user.pk, 1_050)
        streams.number_pending()
        told = send({"up_to": 1_050}).json()
        assert (told["unread"], told["more"], told["seq"]) == (50, True, 2_050)
        assert set(Notification.objects.filter(read_at=None).values_list("raised", flat=True)) == set(
            range(1001, 1051)
        )
        told = send({"up_to": 1_050}).json()
        assert (told["unread"], told["more"]) == (0, False)
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
        ],
    )
    def test_bad_values(self, body, field, send, user):
        """422 that names the field; beyond the head is one of them."""
        notify(user, "note")
        assert assert_problem(send(body), 422)["errors"][0]["field"] == field
        assert position(user) == (1, 1)

    @pytest.mark.parametrize("body", [" ", "{", "NaN", '{"up_to": Infinity}', b"\xff", "[" * 100_000])
    def test_no_json(self, body, send):
        """400."""
        assert_problem(send(body), 400)

    @pytest.mark.parametrize("body", ["[]", "1", "null", '"x"'])
    def test_no_object(self, body, send):
        """422."""
        assert_problem(send(body), 422)

    def test_another_content_type(self, send):
        """415."""
        assert_problem(send("{}", content_type="text/plain"), 415)
        assert_problem(send("up_to=1", content_type="application/x-www-form-urlencoded"), 415)

    def test_a_content_type_with_a_charset(self, send):
        """It is the same type."""
        assert send('{"up_to": 0}', content_type="Application/JSON; charset=UTF-8").status_code == 200

    def test_too_large(self, send):
        """413 over 1 MiB; up to there it is read."""
        assert_problem(send('{"up_to": 0, "x": "' + "x" * 1024 * 1024 + '"}'), 413)
        assert send('{"up_to": 0, "x": "' + "x" * 1024 * 1000 + '"}').status_code == 200

    def test_a_host_that_takes_less(self, send, settings):
        """The host's own limit is a 413 too."""
        settings.DATA_UPLOAD_MAX_MEMORY_SIZE = 10
        assert_problem(send('{"up_to": 0, "more": 1}'), 413)

    def test_unknown_keys_are_ignored(self, send):
        """A newer client may say more."""
        assert send({"up_to": 0, "later": True}).status_code == 200

    def test_a_row_that_somebody_holds(self, send, user):
        """503 and when to come again, after 5 s; nothing was stored."""
        if connection.vendor != "postgresql":
            pytest.skip("SQLite has no locks on rows. Run with --database postgres.")
        (id,) = notify(user, "held")
        holder = Elsewhere()
        try:
            holder.begin()
            holder.do(lambda: Notification.objects.select_for_update().get(pk=id))
            answer = send({"up_to": 1})
            assert_problem(answer, 503)
            assert int(answer["Retry-After"]) > 0
        finally:
            holder.close()
        assert position(user) == (1, 1)
