"""The API for jobs: list, read, cancel and retry them."""

import re

import pytest
from django.test import Client

from notifications.ids import uuid7
from notifications.jobs.policies import DEFAULT_POLICY
from notifications.jobs.transitions import manual, outcomes, recording
from notifications.models import Job, Notification
from notifications.testing import run_jobs
from tests.data.rows import finish_job, job
from tests.http.conftest import assert_problem, job_url
from tests.jobs import tasks
from tests.support.claims import claim_rows

pytestmark = pytest.mark.django_db(transaction=True)

JOBS = "/notifications/api/jobs/"


def cancel(client, row):
    return client.post(job_url(row, "cancel/"))


def retry(client, row):
    return client.post(job_url(row, "retry/"))


class TestList:
    def test_newest_first_and_only_mine(self, user_client, user, other_user):
        rows = [job(user, title=f"Job {number}") for number in range(3)]
        job(other_user), job(None)
        answer = user_client.get(JOBS)
        told = answer.json()
        assert list(told) == ["items", "next"]
        assert ([item["title"] for item in told["items"]], told["next"]) == (
            ["Job 2", "Job 1", "Job 0"],
            None,
        )
        assert told["items"][2] == user_client.get(job_url(rows[0])).json(), (
            "The same serializer as everywhere."
        )
        assert (answer["Cache-Control"], "Cookie" in answer["Vary"]) == ("no-store", True)

    def test_arguments_and_results_are_not_read(self, user_client, user, django_assert_max_num_queries):
        """They may take over a MiB of each job."""
        finish_job(job(user), uuid7(), "x" * 1000)
        with django_assert_max_num_queries(10) as queries:
            assert len(user_client.get(JOBS).json()["items"]) == 1
        (page,) = [query["sql"] for query in queries.captured_queries if "ORDER BY" in query["sql"]]
        assert '"title"' in page
        assert not re.search('"(args|kwargs|result)"', page)

    def test_pages(self, user_client, user):
        """`next` goes on where a page ended, also when new ones came meanwhile."""
        ids = [str(job(user).pk) for _ in range(5)]
        first = user_client.get(JOBS, {"limit": 2}).json()
        job(user)
        second = user_client.get(JOBS, {"limit": 2, "after": first["next"]}).json()
        third = user_client.get(JOBS, {"limit": 2, "after": second["next"]}).json()
        pages = [[item["id"] for item in page["items"]] for page in (first, second, third)]
        assert pages == [[ids[4], ids[3]], [ids[2], ids[1]], [ids[0]]]
        assert third["next"] is None

    def test_limits(self, user_client, user):
        """50 unless told, 100 at most; a page that is exactly full is the last one."""
        for _ in range(101):
            job(user)
        assert len(user_client.get(JOBS).json()["items"]) == 50
        most = user_client.get(JOBS, {"limit": 5000}).json()
        assert len(most["items"]) == 100 and most["next"] == most["items"][-1]["id"]
        last = user_client.get(JOBS, {"limit": 1, "after": most["next"]}).json()
        assert (len(last["items"]), last["next"]) == (1, None)

    def test_one_state(self, user_client, user):
        finish_job(done := job(user), uuid7())
        cancelled, queued = job(user), job(user)
        manual.cancel([cancelled.pk], by=user.pk)
        found = {
            state: [item["id"] for item in user_client.get(JOBS, {"state": state}).json()["items"]]
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
    def test_values_that_are_wrong(self, user_client, query, field):
        """422 that names the field."""
        assert assert_problem(user_client.get(JOBS, query), 422)["errors"][0]["field"] == field

    def test_signed_out(self, client):
        assert_problem(client.get(JOBS), 401)

    def test_what_waits_for_its_number_gets_it(self, user_client, user):
        finish_job(job(user), uuid7())
        Job.objects.update(seq=None)
        assert user_client.get(JOBS).json()["items"][0]["seq"] > 0


class TestDetail:
    def test_an_active_job(self, user_client, user):
        """Its item, and when to ask again."""
        answer = user_client.get(job_url(row := job(user)))
        told = answer.json()
        assert (told["id"], told["state"], told["done"], told["seq"]) == (str(row.pk), "queued", False, 0)
        assert told["links"]["self"] == job_url(row)
        assert (answer["Retry-After"], answer["Cache-Control"]) == ("1", "no-store")

    def test_a_finished_job(self, user_client, user):
        """It has a number and a result, and there is nothing more to wait for."""
        finish_job(row := job(user), uuid7())
        answer = user_client.get(job_url(row))
        told = answer.json()
        assert (told["state"], told["done"], told["links"]["result"]) == (
            "succeeded",
            True,
            job_url(row, "result/"),
        )
        assert told["seq"] > 0
        assert "Retry-After" not in answer

    @pytest.mark.parametrize("header", ["{}", "W/{}", '"other", {}', "*", 'W/"other",  W/{}'])
    def test_it_has_not_changed(self, header, user_client, user):
        """304 for its ETag in a list, weak, or any; a change makes it another."""
        row = job(user)
        tag = user_client.get(job_url(row))["ETag"]
        answer = user_client.get(job_url(row), headers={"If-None-Match": header.format(tag)})
        assert (answer.status_code, answer.content, answer["ETag"]) == (304, b"", tag)
        claim_rows(uuid7(), 1)
        answer = user_client.get(job_url(row), headers={"If-None-Match": tag})
        assert (answer.status_code, answer["ETag"] == tag) == (200, False)

    @pytest.mark.parametrize("header", ['"other"', "garbage", ""])
    def test_it_is_another(self, header, user_client, user):
        """Anything else is answered in full."""
        assert user_client.get(job_url(job(user)), headers={"If-None-Match": header}).status_code == 200

    def test_somebody_elses_is_like_one_that_does_not_exist(self, user_client, other_user):
        """404, word for word the same."""
        theirs, missing = job(other_user), Job()
        for tail in ("", "result/"):
            told = [user_client.get(job_url(row, tail)) for row in (theirs, missing)]
            assert_problem(told[0], 404)
            assert told[0].content == told[1].content

    def test_a_job_that_waits_for_its_number_gets_it(self, user_client, user):
        """Whoever asks numbers first."""
        finish_job(row := job(user), uuid7())
        Job.objects.update(seq=None)
        assert user_client.get(job_url(row)).json()["seq"] > 0


class TestResult:
    @pytest.mark.parametrize("value", [{"rows": 3, "name": "ü"}, [], None, 0, "text"])
    def test_what_the_task_returned(self, value, user_client, user):
        """As JSON, and nothing around it."""
        finish_job(row := job(user), uuid7(), value)
        answer = user_client.get(job_url(row, "result/"))
        assert (answer.status_code, answer["Content-Type"]) == (200, "application/json")
        assert answer.json() == value

    def test_not_done(self, user_client, user):
        """409, and when to ask again."""
        answer = user_client.get(job_url(job(user), "result/"))
        assert "not done" in assert_problem(answer, 409)["detail"]
        assert answer["Retry-After"] == "1"

    def test_failed(self, user_client, user):
        """409 that says so; coming again would not help."""
        row = job(user)
        (claimed,) = claim_rows(uuid7(), 1)
        recording.record_outcomes([outcomes.failed(claimed, DEFAULT_POLICY, ValueError("secret"))])
        answer = user_client.get(job_url(row, "result/"))
        assert "failed" in assert_problem(answer, 409)["detail"]
        assert "Retry-After" not in answer
        assert b"secret" not in answer.content


class TestCancel:
    def test_a_queued_job(self, user_client, user):
        """200: it is cancelled now, with its number and its error, and can be tried again."""
        row = job(user)
        answer = cancel(user_client, row)
        told = answer.json()
        assert answer.status_code == 200
        assert (told["state"], told["done"], told["seq"]) == ("cancelled", True, 1)
        assert told["error"] == {"type": "cancelled", "title": "Cancelled", "detail": "It was cancelled."}
        assert told["links"]["cancel"] is None and told["links"]["retry"] == job_url(row, "retry/")
        assert told == user_client.get(job_url(row)).json()
        assert answer["ETag"] == user_client.get(job_url(row))["ETag"]
        assert not Notification.objects.exists(), "Whoever cancels knows."
        assert cancel(user_client, row).status_code == 200, "It is so already."

    def test_a_running_job(self, user_client, user):
        """202: asked for; the job runs until its task ends."""
        row = job(user)
        claim_rows(uuid7(), 1)
        before = user_client.get(job_url(row))["ETag"]
        answer = cancel(user_client, row)
        told = answer.json()
        assert (answer.status_code, told["state"]) == (202, "running")
        assert answer["Retry-After"] == "1" and answer["ETag"] != before
        assert cancel(user_client, row).status_code == 202
        assert not Job.objects.get().cancelled_by_other

    def test_a_job_that_is_done_otherwise(self, user_client, user):
        finish_job(row := job(user), uuid7())
        assert "has already succeeded" in assert_problem(cancel(user_client, row), 409)["detail"]
        failed = tasks.fail.using(owner=user).enqueue()
        run_jobs()
        assert "has already failed" in assert_problem(cancel(user_client, Job(id=failed.id)), 409)["detail"]

    def test_links(self, user_client, user):
        """Where to cancel stands in each active job."""
        assert user_client.get(job_url(row := job(user))).json()["links"]["cancel"] == job_url(row, "cancel/")


class TestRetry:
    @pytest.fixture
    def failed(self, user):
        id = tasks.fail.using(owner=user).enqueue().id
        run_jobs()
        return Job.objects.get(id=id)

    def test_a_job_that_failed(self, user_client, failed):
        answer = retry(user_client, failed)
        told = answer.json()
        assert answer.status_code == 202
        assert (told["state"], told["seq"], told["error"], told["finished_at"]) == ("queued", 0, None, None)
        assert (told["attempt"], told["max_attempts"]) == (1, 4)
        assert told["version"] == failed.version + 1
        assert_problem(retry(user_client, failed), 409)

    def test_a_job_that_was_cancelled(self, user_client, user):
        cancel(user_client, row := job(user))
        assert retry(user_client, row).json()["state"] == "queued"

    def test_others(self, user_client, user):
        row = job(user)
        assert "Only a failed or cancelled job" in assert_problem(retry(user_client, row), 409)["detail"]
        finish_job(row, uuid7())
        assert_problem(retry(user_client, row), 409)

    def test_too_many(self, user_client, user, failed, settings):
        settings.NOTIFICATIONS = {**settings.NOTIFICATIONS, "ACTIVE_JOBS_PER_USER": 1}
        job(user)
        answer = retry(user_client, failed)
        assert_problem(answer, 429)
        assert int(answer["Retry-After"]) > 0


@pytest.mark.parametrize("verb", ["cancel/", "retry/"])
class TestAccess:
    def test_somebody_elses_is_like_one_that_does_not_exist(self, verb, user_client, other_user):
        row = job(other_user)
        told = [user_client.post(job_url(each, verb)) for each in (row, Job())]
        assert_problem(told[0], 404)
        assert told[0].content == told[1].content
        assert Job.objects.get().version == 1

    def test_signed_out_and_other_methods(self, verb, user_client, user):
        row = job(user)
        assert_problem(Client().post(job_url(row, verb)), 401)
        answer = user_client.get(job_url(row, verb))
        assert_problem(answer, 405)
        assert answer["Allow"] == "POST"

    def test_csrf(self, verb, user, client_of):
        strict = client_of(user, enforce_csrf_checks=True)
        assert_problem(strict.post(job_url(job(user), verb)), 403)
        assert Job.objects.get().state == "queued"
