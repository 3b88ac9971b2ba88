"""Jobs over HTTP: listed, cancelled, tried again."""

import re
import uuid

import pytest
from django.contrib.auth import get_user_model
from django.test import Client
from django.urls import reverse

from notifications.ids import uuid7
from notifications.jobs.transitions import manual
from notifications.models import Job, Notification
from notifications.testing import run_jobs
from tests.data.rows import finish_job, job
from tests.jobs import tasks
from tests.support.claims import claim_rows
from tests.test_views import job_url, problem

pytestmark = pytest.mark.django_db(transaction=True)

JOBS = "/notifications/api/jobs/"


@pytest.fixture
def user(transactional_db):
    return get_user_model().objects.create_user("ada")


@pytest.fixture
def other(transactional_db):
    return get_user_model().objects.create_user("bob")


@pytest.fixture
def ada(user, client):
    client.force_login(user)
    return client


def cancel(client, row):
    return client.post(job_url(row, "cancel/"))


def retry(client, row):
    return client.post(job_url(row, "retry/"))


class TestList:
    def test_newest_first_and_only_mine(self, ada, user, other):
        rows = [job(user, title=f"Job {number}") for number in range(3)]
        job(other), job(None)
        answer = ada.get(JOBS)
        told = answer.json()
        assert list(told) == ["items", "next"]
        assert ([item["title"] for item in told["items"]], told["next"]) == (
            ["Job 2", "Job 1", "Job 0"],
            None,
        )
        assert told["items"][2] == ada.get(job_url(rows[0])).json(), "The same serializer as everywhere."
        assert (answer["Cache-Control"], "Cookie" in answer["Vary"]) == ("no-store", True)

    def test_arguments_and_results_are_not_read(self, ada, user, django_assert_max_num_queries):
        """They may take over a MiB of each job."""
        finish_job(job(user), uuid7(), "x" * 1000)
        with django_assert_max_num_queries(10) as queries:
            assert len(ada.get(JOBS).json()["items"]) == 1
        (page,) = [query["sql"] for query in queries.captured_queries if "ORDER BY" in query["sql"]]
        assert '"title"' in page
        assert not re.search('"(args|kwargs|result)"', page)

    def test_pages(self, ada, user):
        """`next` goes on where a page ended, also when new ones came meanwhile."""
        ids = [str(job(user).pk) for _ in range(5)]
        first = ada.get(JOBS, {"limit": 2}).json()
        job(user)
        second = ada.get(JOBS, {"limit": 2, "after": first["next"]}).json()
        third = ada.get(JOBS, {"limit": 2, "after": second["next"]}).json()
        pages = [[item["id"] for item in page["items"]] for page in (first, second, third)]
        assert pages == [[ids[4], ids[3]], [ids[2], ids[1]], [ids[0]]]
        assert third["next"] is None

    def test_limits(self, ada, user):
        """50 unless told, 100 at most; a page that is exactly full is the last one."""
        for _ in range(101):
            job(user)
        assert len(ada.get(JOBS).json()["items"]) == 50
        most = ada.get(JOBS, {"limit": 5000}).json()
        assert len(most["items"]) == 100 and most["next"] == most["items"][-1]["id"]
        last = ada.get(JOBS, {"limit": 1, "after": most["next"]}).json()
        assert (len(last["items"]), last["next"]) == (1, None)

    def test_one_state(self, ada, user):
        finish_job(done := job(user), uuid7())
        cancelled, queued = job(user), job(user)
        manual.cancel([cancelled.pk], by=user.pk)
        found = {
            state: [item["id"] for item in ada.get(JOBS, {"state": state}).json()["items"]]
            for state in Job.State.values
        }
        assert found == {
            "queued": [str(queued.pk)],
            "running": [],
            "succeeded": [str(done.pk)],
            "failed": [],
            "cancelled": [str(cancelled.pk)],
        }

    @pytest.mark.parametrize(
        ("query", "field"),
        [
            ({"state": "done"}, "state"),
            ({"state": ""}, "state"),
            ({"limit": "0"}, "limit"),
            ({"limit": "x"}, "limit"),
            ({"after": "7"}, "after"),
            ({"after": ""}, "after"),
        ],
    )
    def test_values_that_are_wrong(self, ada, query, field):
        """422 that names the field."""
        assert problem(ada.get(JOBS, query), 422)["errors"][0]["field"] == field

    def test_signed_out(self, client):
        problem(client.get(JOBS), 401)

    def test_what_waits_for_its_number_gets_it(self, ada, user):
        finish_job(job(user), uuid7())
        Job.objects.update(seq=None)
        assert ada.get(JOBS).json()["items"][0]["seq"] > 0


class TestCancel:
    def test_a_queued_job(self, ada, user):
        """200: it is cancelled now, with its number and its error, and can be tried again."""
        row = job(user)
        answer = cancel(ada, row)
        told = answer.json()
        assert answer.status_code == 200
        assert (told["state"], told["done"], told["seq"]) == ("cancelled", True, 1)
        assert told["error"] == {"type": "cancelled", "title": "Cancelled", "detail": "It was cancelled."}
        assert told["links"]["cancel"] is None and told["links"]["retry"] == job_url(row, "retry/")
        assert told == ada.get(job_url(row)).json()
        assert answer["ETag"] == ada.get(job_url(row))["ETag"]
        assert not Notification.objects.exists(), "Whoever cancels knows."
        assert cancel(ada, row).status_code == 200, "It is so already."

    def test_a_running_job(self, ada, user):
        """202: asked for; the job runs until its task ends."""
        row = job(user)
        claim_rows(uuid7(), 1)
        before = ada.get(job_url(row))["ETag"]
        answer = cancel(ada, row)
        told = answer.json()
        assert (answer.status_code, told["state"]) == (202, "running")
        assert answer["Retry-After"] == "1" and answer["ETag"] != before
        assert cancel(ada, row).status_code == 202
        assert not Job.objects.get().cancelled_by_other

    def test_a_job_that_is_done_otherwise(self, ada, user):
        finish_job(row := job(user), uuid7())
        assert "has succeeded already" in problem(cancel(ada, row), 409)["detail"]
        failed = tasks.fail.using(owner=user).enqueue()
        run_jobs()
        assert "has failed already" in problem(cancel(ada, Job(id=failed.id)), 409)["detail"]

    def test_links(self, ada, user):
        """Where to cancel stands in each active job."""
        assert ada.get(job_url(row := job(user))).json()["links"]["cancel"] == job_url(row, "cancel/")


class TestRetry:
    @pytest.fixture
    def failed(self, user):
        id = tasks.fail.using(owner=user).enqueue().id
        run_jobs()
        return Job.objects.get(id=id)

    def test_a_job_that_failed(self, ada, failed):
        answer = retry(ada, failed)
        told = answer.json()
        assert answer.status_code == 202
        assert (told["state"], told["seq"], told["error"], told["finished_at"]) == ("queued", 0, None, None)
        assert (told["attempt"], told["max_attempts"]) == (1, 4)
        assert told["version"] == failed.version + 1
        problem(retry(ada, failed), 409)

    def test_a_job_that_was_cancelled(self, ada, user):
        cancel(ada, row := job(user))
        assert retry(ada, row).json()["state"] == "queued"

    def test_others(self, ada, user):
        row = job(user)
        assert "Only one that failed or was cancelled" in problem(retry(ada, row), 409)["detail"]
        finish_job(row, uuid7())
        problem(retry(ada, row), 409)

    def test_too_many(self, ada, user, failed, settings):
        settings.NOTIFICATIONS = {**settings.NOTIFICATIONS, "ACTIVE_JOBS_PER_USER": 1}
        job(user)
        answer = retry(ada, failed)
        problem(answer, 429)
        assert int(answer["Retry-After"]) > 0


@pytest.mark.parametrize("verb", ["cancel/", "retry/"])
class TestAccess:
    def test_somebody_elses_is_like_one_that_does_not_exist(self, verb, ada, other):
        row = job(other)
        told = [ada.post(job_url(each, verb)) for each in (row, Job())]
        problem(told[0], 404)
        assert told[0].content == told[1].content
        assert Job.objects.get().version == 1

    def test_signed_out_and_other_methods(self, verb, ada, user, client):
        row = job(user)
        problem(Client().post(job_url(row, verb)), 401)
        answer = ada.get(job_url(row, verb))
        problem(answer, 405)
        assert answer["Allow"] == "POST"

    def test_csrf(self, verb, user):
        strict = Client(enforce_csrf_checks=True)
        strict.force_login(user)
        problem(strict.post(job_url(job(user), verb)), 403)
        assert Job.objects.get().state == "queued"


class TestOnItsPage:
    def page(self, client, row):
        return client.get(reverse("notifications:job", args=[row.pk])).content.decode()

    def test_cancel_and_try_again(self, ada, user):
        """A button for what can be done, without JavaScript; both lead back to the page."""
        row = job(user)
        cancel_at, retry_at = (
            reverse(f"notifications:job-{verb}", args=[row.pk]) for verb in ("cancel", "retry")
        )
        assert [at in self.page(ada, row) for at in (cancel_at, retry_at)] == [True, False]
        answer = ada.post(cancel_at)
        assert (answer.status_code, answer["Location"]) == (303, reverse("notifications:job", args=[row.pk]))
        page = self.page(ada, row)
        assert [at in page for at in (cancel_at, retry_at)] == [False, True]
        assert "It was cancelled." in page
        ada.post(retry_at)
        assert Job.objects.get().state == "queued"

    def test_while_it_is_being_cancelled(self, ada, user):
        row = job(user)
        claim_rows(uuid7(), 1)
        manual.cancel([row.pk], by=user.pk)
        page = self.page(ada, row)
        assert "It is being cancelled." in page and "job-cancel" not in page
        assert reverse("notifications:job-cancel", args=[row.pk]) not in page

    def test_a_success_offers_nothing(self, ada, user):
        finish_job(row := job(user), uuid7())
        assert "<form" not in self.page(ada, row).partition("<main>")[2]

    @pytest.mark.parametrize("verb", ["cancel", "retry"])
    def test_somebody_elses(self, verb, ada, other):
        row = job(other)
        assert ada.post(reverse(f"notifications:job-{verb}", args=[row.pk])).status_code == 404
        assert ada.post(reverse(f"notifications:job-{verb}", args=[uuid.uuid4()])).status_code == 404
        assert Job.objects.get().version == 1

    def test_too_many(self, ada, user, settings):
        row = job(user)
        manual.cancel([row.pk])
        job(user)
        settings.NOTIFICATIONS = {**settings.NOTIFICATIONS, "ACTIVE_JOBS_PER_USER": 1}
        answer = ada.post(reverse("notifications:job-retry", args=[row.pk]))
        assert answer.status_code == 429 and b"too many jobs" in answer.content
