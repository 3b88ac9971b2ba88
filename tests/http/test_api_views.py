"""The HTTP API: who may ask, in what form, and what is answered."""

import json
import uuid
from datetime import timedelta

import pytest
from django.contrib.auth import get_user_model
from django.db import OperationalError, connection
from django.test import Client
from django.utils import timezone

from notifications import streams
from notifications.api import notify
from notifications.http import api_views
from notifications.ids import uuid7
from notifications.jobs.policies import DEFAULT_POLICY
from notifications.jobs.transitions import outcomes, recording
from notifications.models import Job, Notification
from notifications.streams import inbox
from tests.data.conftest import Elsewhere
from tests.data.rows import finish_job, job, unnumbered
from tests.data.shapes import position
from tests.support.claims import claim_rows

SYNC = "/notifications/api/sync/"
NOTICES = "/notifications/api/notifications/"
READ = "/notifications/api/notifications/read/"


def job_url(row, tail=""):
    return f"/notifications/api/jobs/{row.pk}/{tail}"


@pytest.fixture
def user(transactional_db):
    return get_user_model().objects.create_user("ada")


@pytest.fixture
def other(transactional_db):
    return get_user_model().objects.create_user("bob")


@pytest.fixture
def ada(user):
    """Ada's browser. It checks CSRF, as a real one is checked."""
    client = Client(enforce_csrf_checks=True)
    client.force_login(user)
    return client


@pytest.fixture
def send(ada):
    """send(body) posts JSON to notifications/read/ with Ada's CSRF token."""

    def post(body, url=READ, **options):
        token = "a" * 32
        ada.cookies["csrftoken"] = token
        text = body if isinstance(body, str | bytes) else json.dumps(body)
        return ada.post(
            url, text, **{"content_type": "application/json", "headers": {"X-CSRFToken": token}, **options}
        )

    return post


def problem(answer, status):
    """The problem that an answer is."""
    assert answer.status_code == status, answer.content
    assert answer["Content-Type"] == "application/problem+json"
    assert "no-store" in answer["Cache-Control"]
    told = answer.json()
    assert told["status"] == status
    assert (told["type"] and told["title"] and told["detail"].endswith((".", ":"))) or told["detail"]
    return told


A_JOB = Job(id=uuid.UUID(int=7))


class TestAccess:
    @pytest.mark.parametrize("url", [SYNC, NOTICES, job_url(A_JOB), job_url(A_JOB, "result/")])
    def test_nobody_is_signed_in(self, url, transactional_db):
        """401 as a problem, for whatever method and id, and no redirect to a login page."""
        assert "Sign in" in problem(Client().get(url), 401)["detail"]
        problem(Client().post(url), 401)

    def test_signed_out_comes_before_csrf(self, transactional_db):
        """A form of a page that was signed out meanwhile is told so, and not that its token is wrong."""
        problem(Client(enforce_csrf_checks=True).post(READ, "{}", content_type="application/json"), 401)

    def test_a_middleware_that_demands_sign_in_is_left_to_the_api(self, transactional_db, settings):
        """With LoginRequiredMiddleware the API answers for itself."""
        settings.MIDDLEWARE = [*settings.MIDDLEWARE, "django.contrib.auth.middleware.LoginRequiredMiddleware"]
        problem(Client().get(SYNC), 401)

    @pytest.mark.parametrize(
        ("method", "url", "allow"),
        [
            ("post", SYNC, "GET, HEAD"),
            ("delete", NOTICES, "GET, HEAD"),
            ("get", READ, "POST"),
            ("put", READ, "POST"),
        ],
    )
    def test_another_method(self, method, url, allow, ada):
        """405 with Allow."""
        answer = getattr(ada, method)(url)
        problem(answer, 405)
        assert answer["Allow"] == allow

    def test_head_is_a_get(self, ada):
        """HEAD answers as GET does, without a body."""
        answer = ada.head(SYNC)
        assert (answer.status_code, answer.content) == (200, b"")

    def test_csrf(self, ada, user):
        """Without the token of the session: 403 as a problem that says where the token goes."""
        notify(user, "note")
        answer = ada.post(READ, '{"up_to": 1}', content_type="application/json")
        remedy = "Send the value of the cookie csrftoken in the header X-Csrftoken."
        assert problem(answer, 403)["detail"].endswith(remedy)
        assert position(user) == (1, 1)

    def test_csrf_as_the_project_has_it(self, ada, settings):
        """Its own header and cookie, or no cookie; and a foreign origin is told that no token mends it."""
        settings.CSRF_HEADER_NAME, settings.CSRF_COOKIE_NAME = "HTTP_X_OFFICE_TOKEN", "office"

        def refused(**headers):
            answer = ada.post(READ, '{"up_to": 0}', content_type="application/json", headers=headers)
            return problem(answer, 403)["detail"]

        remedy = "Send the value of the cookie office in the header X-Office-Token."
        assert refused() == f"CSRF cookie not set. {remedy}"
        ada.cookies["office"] = "a" * 32
        assert refused() == f"CSRF token missing. {remedy}"
        assert "Send" not in (told := refused(origin="https://other.example")) and "TRUSTED_ORIGINS" in told
        settings.CSRF_USE_SESSIONS = True
        remedy = "Send the csrfmiddlewaretoken of a form in the header X-Office-Token."
        assert refused() == f"CSRF cookie not set. {remedy}"

    def test_csrf_of_a_form_that_cannot_be_read(self, ada):
        """A form is read for its token: a broken one is a problem too, never a page or a 500."""
        ada.cookies["csrftoken"] = "a" * 32
        answer = ada.post(READ, b"--x\r\n\r\n", content_type="multipart/form-data; boundary=")
        problem(answer, 400)
        answer = ada.post(READ, b"a=1&" * 2_000, content_type="application/x-www-form-urlencoded")
        problem(answer, 400)
        answer = ada.post(READ, b"a" * 3_000_000, content_type="application/x-www-form-urlencoded")
        problem(answer, 413)

    @pytest.mark.parametrize("error", [OperationalError("database is locked"), OperationalError("gone away")])
    def test_the_database_is_away(self, error, ada, monkeypatch, caplog):
        """503 and when to come again; the log says what it was."""
        monkeypatch.setattr(streams, "epoch", lambda: (_ for _ in ()).throw(error))
        for url in (SYNC, NOTICES):
            answer = ada.get(url)
            problem(answer, 503)
            assert int(answer["Retry-After"]) > 0
        logged = [record for record in caplog.records if record.name == "notifications"]
        assert [(record.levelname, record.exc_info[1]) for record in logged] == [("WARNING", error)] * 2

    def test_the_session_cannot_be_read(self, ada, monkeypatch):
        """Nobody is told that they are signed out while it cannot be known."""

        def away(*args, **kwargs):
            raise OperationalError("gone away")

        monkeypatch.setattr("django.contrib.auth.get_user", away)
        monkeypatch.setattr("django.contrib.auth.middleware.auth.get_user", away)
        problem(ada.get(SYNC), 503)

    def test_no_transaction_is_held(self, ada, user, monkeypatch):
        """Under ATOMIC_REQUESTS too, so that what is answered is committed, and nobody waits holding one."""
        monkeypatch.setitem(connection.settings_dict, "ATOMIC_REQUESTS", True)
        seen = []
        monkeypatch.setattr(
            api_views.reader, "number_first", lambda users: seen.append(connection.in_atomic_block)
        )
        ada.get(NOTICES)
        assert seen == [False]

    def test_answers_are_nobody_elses(self, ada):
        """No cache keeps them."""
        answer = ada.get(NOTICES)
        assert (answer["Cache-Control"], "Cookie" in answer["Vary"]) == ("no-store", True)


class TestSync:
    def test_without_a_position(self, ada, user):
        """A snapshot: the newest, by raised, and the active jobs."""
        notify(user, "first")
        notify(user, "second")
        active = job(user)
        frame = ada.get(SYNC).json()
        assert list(frame) == ["op", "epoch", "prev", "seq", "reset", "more", "unread", "items", "jobs"]
        assert (frame["op"], frame["epoch"]) == ("sync", streams.epoch())
        assert (frame["prev"], frame["seq"], frame["reset"], frame["more"]) == (None, 2, True, False)
        assert [item["title"] for item in frame["items"]] == ["first", "second"]
        assert (frame["unread"], [item["id"] for item in frame["jobs"]]) == (2, [str(active.pk)])

    def test_from_a_position(self, ada, user):
        """What followed, and nothing else."""
        for title in ("first", "second", "third"):
            notify(user, title)
        frame = ada.get(SYNC, {"epoch": streams.epoch(), "seq": 1}).json()
        assert (frame["prev"], frame["seq"], frame["reset"]) == (1, 3, False)
        assert [item["seq"] for item in frame["items"]] == [2, 3]
        frame = ada.get(SYNC, {"epoch": streams.epoch(), "seq": 3}).json()
        assert (frame["prev"], frame["seq"], frame["items"]) == (3, 3, [])

    @pytest.mark.parametrize("query", [{"epoch": "another", "seq": 1}, {"seq": 1}, {"epoch": "x"}])
    def test_from_another_life(self, query, ada, user):
        """Another epoch, or half a position, starts from a snapshot."""
        notify(user, "note")
        assert ada.get(SYNC, query).json()["reset"] is True

    def test_from_beyond_the_head(self, ada, user):
        """A position that never was starts from a snapshot."""
        assert ada.get(SYNC, {"epoch": streams.epoch(), "seq": 7}).json()["reset"] is True

    def test_more_follows(self, ada, user):
        """At most 200 rows, and how to go on."""
        inbox.create_notifications([user.pk], "first")
        unnumbered(user.pk, 250)
        streams.number_pending()
        frame = ada.get(SYNC, {"epoch": streams.epoch(), "seq": 1}).json()
        assert (len(frame["items"]), frame["seq"], frame["more"], "jobs" in frame) == (200, 201, True, False)
        frame = ada.get(SYNC, {"epoch": streams.epoch(), "seq": 201}).json()
        assert (len(frame["items"]), frame["seq"], frame["more"], frame["jobs"]) == (50, 251, False, [])

    def test_a_snapshot_numbers_first(self, ada, user):
        """What a process left unnumbered is in the first snapshot."""
        unnumbered(user.pk, 1)
        frame = ada.get(SYNC).json()
        assert (frame["seq"], len(frame["items"])) == (1, 1)

    @pytest.mark.parametrize("seq", ["x", "", "-1", "1.5", "1e3", "9007199254740992", "٣", "9" * 30])
    def test_a_bad_position(self, seq, ada):
        """422 that names the field."""
        assert problem(ada.get(SYNC, {"epoch": "e", "seq": seq}), 422)["errors"][0]["field"] == "seq"

    def test_others_see_nothing(self, ada, other):
        """A stream is its user's own."""
        notify(other, "theirs")
        job(other)
        frame = ada.get(SYNC).json()
        assert (frame["seq"], frame["items"], frame["jobs"], frame["unread"]) == (0, [], [], 0)


class TestJob:
    def test_an_active_job(self, ada, user):
        """Its item, and when to ask again."""
        answer = ada.get(job_url(row := job(user)))
        told = answer.json()
        assert (told["id"], told["state"], told["done"], told["seq"]) == (str(row.pk), "queued", False, 0)
        assert told["links"]["self"] == job_url(row)
        assert (answer["Retry-After"], answer["Cache-Control"]) == ("1", "no-store")

    def test_a_finished_job(self, ada, user):
        """It has a number and a result, and there is nothing more to wait for."""
        finish_job(row := job(user), uuid7())
        answer = ada.get(job_url(row))
        told = answer.json()
        assert (told["state"], told["done"], told["links"]["result"]) == (
            "succeeded",
            True,
            job_url(row, "result/"),
        )
        assert told["seq"] > 0
        assert "Retry-After" not in answer

    @pytest.mark.parametrize("header", ["{}", "W/{}", '"other", {}', "*", 'W/"other",  W/{}'])
    def test_it_has_not_changed(self, header, ada, user):
        """304 for its ETag in a list, weak, or any; a change makes it another."""
        row = job(user)
        tag = ada.get(job_url(row))["ETag"]
        answer = ada.get(job_url(row), headers={"If-None-Match": header.format(tag)})
        assert (answer.status_code, answer.content, answer["ETag"]) == (304, b"", tag)
        claim_rows(uuid7(), 1)
        answer = ada.get(job_url(row), headers={"If-None-Match": tag})
        assert (answer.status_code, answer["ETag"] == tag) == (200, False)

    @pytest.mark.parametrize("header", ['"other"', "garbage", ""])
    def test_it_is_another(self, header, ada, user):
        """Anything else is answered in full."""
        assert ada.get(job_url(job(user)), headers={"If-None-Match": header}).status_code == 200

    def test_somebody_elses_is_like_one_that_does_not_exist(self, ada, other):
        """404, word for word the same."""
        theirs, missing = job(other), Job()
        for tail in ("", "result/"):
            told = [ada.get(job_url(row, tail)) for row in (theirs, missing)]
            problem(told[0], 404)
            assert told[0].content == told[1].content

    def test_a_job_that_waits_for_its_number_gets_it(self, ada, user):
        """Whoever asks numbers first."""
        finish_job(row := job(user), uuid7())
        Job.objects.update(seq=None)
        assert ada.get(job_url(row)).json()["seq"] > 0


class TestResult:
    @pytest.mark.parametrize("value", [{"rows": 3, "name": "ü"}, [], None, 0, "text"])
    def test_what_the_task_returned(self, value, ada, user):
        """As JSON, and nothing around it."""
        finish_job(row := job(user), uuid7(), value)
        answer = ada.get(job_url(row, "result/"))
        assert (answer.status_code, answer["Content-Type"]) == (200, "application/json")
        assert answer.json() == value

    def test_not_done(self, ada, user):
        """409, and when to ask again."""
        answer = ada.get(job_url(job(user), "result/"))
        assert "not done" in problem(answer, 409)["detail"]
        assert answer["Retry-After"] == "1"

    def test_failed(self, ada, user):
        """409 that says so; coming again would not help."""
        row = job(user)
        (claimed,) = claim_rows(uuid7(), 1)
        recording.record_outcomes([outcomes.failed(claimed, DEFAULT_POLICY, ValueError("secret"))])
        answer = ada.get(job_url(row, "result/"))
        assert "failed" in problem(answer, 409)["detail"]
        assert "Retry-After" not in answer
        assert b"secret" not in answer.content


class TestNotifications:
    def test_newest_first_with_the_position(self, ada, user):
        """The position was read before the rows, so a client that goes on from it misses nothing."""
        notify(user, "first", data={"n": 1}, url="/there/", category="c", level="warning", body="words")
        notify(user, "second")
        told = ada.get(NOTICES).json()
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

    def test_pages(self, ada, user):
        """``next`` goes on where a page ended; a row that moves meanwhile is neither lost nor shown twice."""
        ids = [str(notify(user, f"note {number}")[0]) for number in range(5)]
        first = ada.get(NOTICES, {"limit": 2}).json()
        inbox.mark(user.pk, "read", 5, [Notification.objects.get(raised=3).pk])
        second = ada.get(NOTICES, {"limit": 2, "after": first["next"]}).json()
        third = ada.get(NOTICES, {"limit": 2, "after": second["next"]}).json()
        pages = [[item["id"] for item in page["items"]] for page in (first, second, third)]
        assert pages == [[ids[4], ids[3]], [ids[2], ids[1]], [ids[0]]]
        assert third["next"] is None

    def test_filters(self, ada, user):
        """unread, archived and category; without ``archived`` the archived are left out."""
        for title, key, category in (("a", "k", ""), ("b", "", "x"), ("c", "k", ""), ("d", "", "")):
            notify(user, title, key=key, category=category)
        inbox.mark(user.pk, "read", 10**6, [Notification.objects.get(title="d").pk])

        def titles(**query):
            return "".join(item["title"] for item in ada.get(NOTICES, query).json()["items"])

        assert titles() == titles(archived=0) == "dcb"
        assert titles(archived=1) == "a"
        assert (titles(unread=1), titles(unread=0)) == ("cb", "d")
        assert (titles(category="x"), titles(category="x", unread=0)) == ("b", "")
        assert titles(category="") == "dc"

    def test_limits(self, ada, user):
        """50 unless told, at most 100: more is cut."""
        notify(user, "first")
        unnumbered(user.pk, 120)
        assert len(ada.get(NOTICES).json()["items"]) == 50
        assert len(ada.get(NOTICES, {"limit": 100}).json()["items"]) == 100
        assert len(ada.get(NOTICES, {"limit": 1000}).json()["items"]) == 100

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
    def test_a_bad_value(self, field, value, ada):
        """422 that names the field."""
        assert problem(ada.get(NOTICES, {field: value}), 422)["errors"][0]["field"] == field

    def test_others_see_nothing(self, ada, other):
        """An inbox is its user's own."""
        notify(other, "theirs")
        assert ada.get(NOTICES).json()["items"] == []


class TestRead:
    def test_up_to(self, send, user):
        """What was raised up to there, answered with the position after it."""
        for number in range(3):
            notify(user, f"note {number}")
        told = send({"up_to": 2})
        assert told.status_code == 200
        assert told.json() == {"epoch": streams.epoch(), "seq": 5, "unread": 1, "more": False}
        assert send({"up_to": 2}).json()["seq"] == 5, "what is read already must not move"

    def test_ids(self, send, user, other):
        """Only these, and none of somebody else's."""
        mine = [notify(user, "mine")[0] for _ in range(3)]
        (theirs,) = notify(other, "theirs")
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
        assert problem(send(body), 422)["errors"][0]["field"] == field
        assert position(user) == (1, 1)

    @pytest.mark.parametrize("body", [" ", "{", "NaN", '{"up_to": Infinity}', b"\xff", "[" * 100_000])
    def test_no_json(self, body, send):
        """400."""
        problem(send(body), 400)

    @pytest.mark.parametrize("body", ["[]", "1", "null", '"x"'])
    def test_no_object(self, body, send):
        """422."""
        problem(send(body), 422)

    def test_another_content_type(self, send):
        """415."""
        problem(send("{}", content_type="text/plain"), 415)
        problem(send("up_to=1", content_type="application/x-www-form-urlencoded"), 415)

    def test_a_content_type_with_a_charset(self, send):
        """It is the same type."""
        assert send('{"up_to": 0}', content_type="Application/JSON; charset=UTF-8").status_code == 200

    def test_too_large(self, send):
        """413 over 1 MiB; up to there it is read."""
        problem(send('{"up_to": 0, "x": "' + "x" * 1024 * 1024 + '"}'), 413)
        assert send('{"up_to": 0, "x": "' + "x" * 1024 * 1000 + '"}').status_code == 200

    def test_a_host_that_takes_less(self, send, settings):
        """The host's own limit is a 413 too."""
        settings.DATA_UPLOAD_MAX_MEMORY_SIZE = 10
        problem(send('{"up_to": 0, "more": 1}'), 413)

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
            problem(answer, 503)
            assert int(answer["Retry-After"]) > 0
        finally:
            holder.close()
        assert position(user) == (1, 1)


def test_times_are_utc(ada, user, settings):
    """Whatever the host's time zone is."""
    settings.TIME_ZONE = "Asia/Kathmandu"
    (id,) = notify(user, "note")
    told = ada.get(NOTICES).json()["items"][0]["created_at"]
    assert told.endswith("Z")
    assert abs(timezone.now() - Notification.objects.get(pk=id).created_at) < timedelta(minutes=1)
    assert told[:19] == Notification.objects.get(pk=id).created_at.strftime("%Y-%m-%dT%H:%M:%S")
