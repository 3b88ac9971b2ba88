"""The public verbs, from outside."""

import json
from decimal import Decimal

import pytest
from django.contrib.auth import get_user_model
from django.contrib.auth.models import AnonymousUser, Group, Permission
from django.db import OperationalError, transaction
from django.test import RequestFactory

from notifications import api
from notifications.api import aaccepted, accepted, anotify, notify, progress, requester, track
from notifications.models import Job, Notification
from notifications.testing import run_jobs
from tests.jobs import tasks

pytestmark = pytest.mark.django_db


@pytest.fixture
def request_of(rf):
    def make(user, method="post", **headers):
        request = getattr(rf, method)("/reports/", headers=headers)
        request.user = user
        return request

    return make


def test_every_public_name_is_there_and_described():
    assert {
        "task",
        "policy",
        "notify",
        "anotify",
        "accepted",
        "aaccepted",
        "requester",
        "progress",
        "track",
    } <= set(api.__all__)
    for name in set(api.__all__) - {"task"}:  # Django's own
        assert getattr(api, name).__doc__, name


class TestNotify:
    def test_one(self, user):
        (id,) = notify(
            user,
            "Export ready",
            body="12,400 rows",
            url="/exports/7/",
            level="success",
            category="export",
            key="export:7",
            data={"rows": 12400},
        )
        row = Notification.objects.get(id=id)
        assert (row.user_id, row.title, row.body, row.url) == (
            user.pk,
            "Export ready",
            "12,400 rows",
            "/exports/7/",
        )
        assert (row.level, row.category, row.key, row.data) == (
            "success",
            "export",
            "export:7",
            '{"rows":12400}',
        )
        assert (row.read_at, row.archived_at, row.job) == (None, None, None)

    def test_several_each_once(self, user, other_user):
        """Users and keys, in any iterable, and twice the same."""
        ids = notify((each for each in (user, other_user.pk, user.pk)), "Maintenance at 22:00")
        assert len(ids) == 2
        assert set(Notification.objects.values_list("user_id", flat=True)) == {user.pk, other_user.pk}

    @pytest.mark.parametrize(
        ("fields", "error", "words"),
        [
            ({"title": ""}, ValueError, "title is empty"),
            ({"title": "x" * 201}, ValueError, "title has 201 characters. At most 200"),
            ({"title": 5}, TypeError, "title must be a string, not int"),
            ({"body": "x" * 2001}, ValueError, "body has 2001 characters"),
            ({"body": "a\0"}, ValueError, "body contains NUL"),
            ({"url": "javascript:x"}, ValueError, "url is 'javascript:x'. It must be a path"),
            ({"url": "//evil.example/"}, ValueError, "It must be a path that begins with one '/'"),
            (
                {"level": "loud"},
                ValueError,
                "level is 'loud'. It must be one of info, success, warning, error",
            ),
            ({"category": "x" * 101}, ValueError, "category has 101 characters"),
            ({"key": "x" * 201}, ValueError, "key has 201 characters"),
            ({"data": [1]}, TypeError, "data must be a dict, not list"),
            ({"data": {"x": "x" * 4096}}, ValueError, "At most 4096 are allowed"),
            ({"data": {"x": float("nan")}}, ValueError, "cannot be written as JSON"),
        ],
    )
    def test_out_of_bounds(self, user, fields, error, words):
        """The error names the field and the remedy, and nothing is written."""
        with pytest.raises(error, match=words):
            notify(user, **{"title": "Hello", **fields})
        assert not Notification.objects.exists()

    @pytest.mark.parametrize("key", [True, 1.0, Decimal(1)])
    def test_value_that_would_be_converted_to_a_key(self, key):
        """It is refused: it would reach the user with the key 1."""
        for users in (key, [key]):
            with pytest.raises(ValueError, match=r"Pass a saved user or its primary key"):
                notify(users, "Hello")
        assert not Notification.objects.exists()

    def test_a_group(self, make_user):
        """Its active users are notified, each once."""
        group = Group.objects.create(name="Shop")
        for name in ("first", "second", "left"):
            make_user(name, is_active=name != "left").groups.add(group, Group.objects.create(name=name))
        make_user("outside")
        assert len(notify(group, "Paid")) == 2
        names = Notification.objects.values_list("user__username", flat=True)
        assert sorted(names) == ["first", "second"]

    def test_a_large_group(self, make_user, django_assert_max_num_queries):
        """It is read without its users, and inserted in chunks."""
        group = Group.objects.create(name="Shop")
        User = get_user_model()
        users = User.objects.bulk_create([User(username=f"user {number}") for number in range(250)])
        group.user_set.add(*users)
        with django_assert_max_num_queries(20):
            assert len(notify(group, "Paid")) == 250
        assert Notification.objects.count() == 250

    @pytest.mark.parametrize("kind", ["request", "manager", "class", "permission"])
    def test_what_is_no_user(self, kind):
        """Not silently no one: a request can be iterated, and has no lines."""
        values = {"request": RequestFactory().get("/"), "manager": get_user_model().objects}
        values |= {"class": get_user_model(), "permission": Permission.objects.first()}
        with pytest.raises(TypeError, match=r"Pass a (user, a primary key, an iterable|saved user)"):
            notify(values[kind], "Hello")

    def test_an_actor_that_is_a_user(self, user):
        with pytest.raises(
            TypeError, match="actor must be a name, or a dict of 'name' and 'image', not User"
        ):
            notify(user, "Hello", actor=user)

    @pytest.mark.parametrize("nobody", [None, AnonymousUser()])
    def test_nobody(self, nobody):
        with pytest.raises(
            ValueError, match=r"is not a saved user\. Pass a saved user|An anonymous user has no inbox"
        ):
            notify(nobody, "Hello")

    @pytest.mark.django_db(transaction=True)
    def test_a_rollback_leaves_nothing(self, user):
        with pytest.raises(RuntimeError), transaction.atomic():
            notify(user, "Hello")
            raise RuntimeError
        notify(user, "World")
        assert [(row.title, row.seq) for row in Notification.objects.all()] == [("World", 1)]

    @pytest.mark.django_db(transaction=True)
    async def test_async(self, event_loop_database, user):
        (id,) = await anotify(user, "Hello", level="warning")
        assert (await Notification.objects.aget(id=id)).level == "warning"


class TestAccepted:
    def test_a_program_gets_202_and_the_job(self, user, request_of):
        response = accepted(request_of(user), tasks.noop.using(title="Mine").enqueue)
        job = Job.objects.get()
        item = json.loads(response.content)
        assert response.status_code == 202
        assert (item["id"], item["title"], item["state"]) == (str(job.id), "Mine", "queued")
        assert response["Location"] == item["links"]["self"] == f"/notifications/api/jobs/{job.id}/"
        assert response["Retry-After"] == "1"
        assert response["Cache-Control"] == "no-store"
        assert response["Content-Type"] == "application/json"
        assert response["ETag"].startswith('"')
        assert job.user_id == user.pk

    @pytest.mark.parametrize(("url", "location"), [("/mine/", "/mine/"), (None, "/notifications/jobs/{}/")])
    def test_a_browser_is_sent_to_the_result(self, user, request_of, url, location):
        request = request_of(user, accept="text/html,application/xhtml+xml,*/*;q=0.8")
        response = accepted(request, tasks.noop.using(url=url).enqueue)
        assert (response.status_code, response["Location"]) == (303, location.format(Job.objects.get().id))

    def test_the_function_runs_in_one_transaction(self, user, request_of):
        """Neither the project's row nor the job is there without the other."""

        def ask():
            get_user_model().objects.create(username="made by ask")
            tasks.noop.enqueue()
            raise RuntimeError("after both")

        with pytest.raises(RuntimeError, match="after both"):
            accepted(request_of(user), ask)
        assert not Job.objects.exists()
        assert get_user_model().objects.count() == 1

    def test_the_function_must_return_a_result(self, user, request_of):
        with pytest.raises(
            TypeError, match=r"accepted\(\) returned 5. It must return what enqueue\(\) returned"
        ):
            accepted(request_of(user), lambda: 5)

    def test_too_many_jobs(self, user, request_of, settings):
        settings.NOTIFICATIONS = {**settings.NOTIFICATIONS, "ACTIVE_JOBS_PER_USER": 1}
        assert accepted(request_of(user), tasks.noop.enqueue).status_code == 202
        response = accepted(request_of(user), tasks.noop.enqueue)
        assert response.status_code == 429
        assert response["Content-Type"] == "application/problem+json"
        assert int(response["Retry-After"]) > 0
        assert "1 active jobs already" in json.loads(response.content)["detail"]

    def test_a_busy_database(self, user, request_of):
        def ask():
            raise OperationalError("database is locked")

        response = accepted(request_of(user), ask)
        assert response.status_code == 503
        assert response["Content-Type"] == "application/problem+json"
        assert "locked" not in response.content.decode()
        assert int(response["Retry-After"]) > 0

    @pytest.mark.django_db(transaction=True)
    async def test_async(self, request_of, event_loop_database, user):
        response = await aaccepted(request_of(user), tasks.noop.enqueue)
        assert response.status_code == 202
        assert (await Job.objects.aget()).user_id == user.pk


def test_requester(user):
    with requester(user):
        tasks.noop.enqueue()
    assert Job.objects.get().user_id == user.pk


class TestProgress:
    def test_outside_a_job_it_does_nothing(self):
        progress(1, 2, "x")
        assert list(track([1, 2, 3])) == [1, 2, 3]

    def test_track(self):
        """Of what has no length it counts without a total."""
        tasks.count.enqueue(4)
        run_jobs()
        job = Job.objects.get()
        assert (job.progress_current, job.progress_total, job.progress_message) == (4, 4, "counting")
        assert list(track(iter("ab"))) == ["a", "b"]


def test_the_signal_of_another_package():
    """Code that was written for django-notifications-hq gets an ImportError that names the function."""
    with pytest.raises(ImportError, match=r"notifications\.api\.notify\(\)"):
        from notifications.signals import notify  # noqa: F401
    with pytest.raises(ImportError, match="cannot import name 'missing'"):
        from notifications.signals import missing  # noqa: F401
