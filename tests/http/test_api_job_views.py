"""The API for jobs: list, read, cancel and retry them."""

import re
from datetime import timedelta
from uuid import UUID, uuid4

import pytest
from django.test import Client
from django.utils import timezone

from notifications import jobs
from notifications.models import Job, Notification, uuid7
from notifications.testing import run_jobs
from tests.data.rows import finish_job, job
from tests.http.conftest import assert_problem, job_url
from tests.jobs import tasks
from tests.support.claims import claim_rows
from tests.support.outcomes import failed, record

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.nightly_on_postgres]

JOBS = "/notifications/api/jobs/"


def cancel(client, row):
    return client.post(job_url(row, "cancel/"))


def retry(client, row):
    return client.post(job_url(row, "retry/"))


class TestList:
    def test_newest_own_jobs_first(self, user_client, user, other_user):
        rows = [job(user, title=f"Job {number}") for number in range(3)]
        job(other_user), job(None)
        response = user_client.get(JOBS)
        data = response.json()
        assert list(data) == ["items", "next"]
        assert ([item["title"] for item in data["items"]], data["next"]) == (
            ["Job 2", "Job 1", "Job 0"],
            None,
        )
        assert data["items"][2] == user_client.get(job_url(rows[0])).json(), "the list and the detail differ"
        assert (response["Cache-Control"], "Cookie" in response["Vary"]) == ("no-store", True)

    def test_arguments_and_results_are_not_queried(self, user_client, user, django_assert_max_num_queries):
        """They may have over 1 MiB each."""
        finish_job(job(user), uuid7(), "x" * 1000)
        with django_assert_max_num_queries(10) as queries:
            assert len(user_client.get(JOBS).json()["items"]) == 1
        (page,) = [query["sql"] for query in queries.captured_queries if "ORDER BY" in query["sql"]]
        assert '"title"' in page
        assert not re.search('"(args|kwargs|result)"', page)

    def test_pages(self, user_client, user):
        """``next`` continues after the page, also when new jobs were enqueued."""
        ids = [str(job(user).pk) for _ in range(5)]
        first = user_client.get(JOBS, {"limit": 2}).json()
        job(user)
        second = user_client.get(JOBS, {"limit": 2, "after": first["next"]}).json()
        third = user_client.get(JOBS, {"limit": 2, "after": second["next"]}).json()
        pages = [[item["id"] for item in page["items"]] for page in (first, second, third)]
        assert pages == [[ids[4], ids[3]], [ids[2], ids[1]], [ids[0]]]
        assert third["next"] is None

    def test_pages_are_by_time(self, user_client, user):
        """Ids do not ascend with the time where they were made by another machine."""
        old, middle, new = (job(user) for _ in range(3))
        Job.objects.filter(pk=old.pk).update(created_at=timezone.now() + timedelta(seconds=5))
        pages, after = [], {}
        while after is not None:
            data = user_client.get(JOBS, {"limit": 1, **after}).json()
            pages.append(data["items"][0]["id"])
            after = {"after": data["next"]} if data["next"] else None
        assert pages == [str(row.pk) for row in (old, new, middle)]

    def test_after_a_deleted_job(self, user_client, user):
        """The page begins where its id was created. For an id without a time it is 404, with a remedy."""
        row, deleted_id = job(user), job(user).pk
        Job.objects.filter(pk=deleted_id).delete()
        data = user_client.get(JOBS, {"after": deleted_id}).json()
        assert [item["id"] for item in data["items"]] == [str(row.pk)]
        for id in (uuid4(), UUID(int=0xFFFF << 112 | 7 << 76 | 2 << 62)):
            problem = assert_problem(user_client.get(JOBS, {"after": id}), 404)
            assert problem["errors"][0]["field"] == "after" and "first page" in problem["detail"]

    def test_limits(self, user_client, user):
        """The default is 50, the maximum 100. A full page can be the last one."""
        for _ in range(101):
            job(user)
        assert len(user_client.get(JOBS).json()["items"]) == 50
        largest = user_client.get(JOBS, {"limit": 5000}).json()
        assert len(largest["items"]) == 100 and largest["next"] == largest["items"][-1]["id"]
        last = user_client.get(JOBS, {"limit": 1, "after": largest["next"]}).json()
        assert (len(last["items"]), last["next"]) == (1, None)

    def test_filter_by_state(self, user_client, user):
        finish_job(done := job(user), uuid7())
        cancelled, queued = job(user), job(user)
        jobs.cancel([cancelled.pk], by=user.pk)
        found = {
            state: [item["id"] for item in user_client.get(JOBS, {"state": state}).json()["items"]]
            for state in Job.State.values
        }
        assert found == {
            "queued": [str(queued.pk)],
            "running": [],
            "waiting": [],
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
    def test_invalid_parameters(self, user_client, query, field):
        assert assert_problem(user_client.get(JOBS, query), 422)["errors"][0]["field"] == field

    def test_signed_out(self, client):
        assert_problem(client.get(JOBS), 401)

    def test_pending_jobs_are_numbered(self, user_client, user):
        finish_job(job(user), uuid7())
        Job.objects.update(seq=None)
        assert user_client.get(JOBS).json()["items"][0]["seq"] > 0


class TestDetail:
    def test_active_job(self, user_client, user):
        """The item, with Retry-After."""
        response = user_client.get(job_url(row := job(user)))
        data = response.json()
        assert (data["id"], data["state"], data["done"], data["seq"]) == (str(row.pk), "queued", False, 0)
        assert data["links"]["self"] == job_url(row)
        assert (response["Retry-After"], response["Cache-Control"]) == ("1", "no-store")

    def test_a_finished_job(self, user_client, user):
        """The item has a seq and a link to the result, without Retry-After."""
        finish_job(row := job(user), uuid7())
        response = user_client.get(job_url(row))
        data = response.json()
        assert (data["state"], data["done"], data["links"]["result"]) == (
            "succeeded",
            True,
            job_url(row, "result/"),
        )
        assert data["seq"] > 0
        assert "Retry-After" not in response

    @pytest.mark.parametrize("header", ["{}", "W/{}", '"other", {}', "*", 'W/"other",  W/{}'])
    def test_not_modified(self, header, user_client, user):
        """304 for the current ETag, also weak or in a list. Every change creates a new one."""
        row = job(user)
        tag = user_client.get(job_url(row))["ETag"]
        response = user_client.get(job_url(row), headers={"If-None-Match": header.format(tag)})
        assert (response.status_code, response.content, response["ETag"]) == (304, b"", tag)
        claim_rows(uuid7(), 1)
        response = user_client.get(job_url(row), headers={"If-None-Match": tag})
        assert (response.status_code, response["ETag"] == tag) == (200, False)

    @pytest.mark.parametrize("header", ['"other"', "garbage", ""])
    def test_other_entity_tags(self, header, user_client, user):
        assert user_client.get(job_url(job(user)), headers={"If-None-Match": header}).status_code == 200

    def test_jobs_of_other_users_are_not_found(self, user_client, other_user):
        """The response equals that of a job that does not exist."""
        theirs, missing = job(other_user), Job()
        for tail in ("", "result/"):
            data = [user_client.get(job_url(row, tail)) for row in (theirs, missing)]
            assert_problem(data[0], 404)
            assert data[0].content == data[1].content

    def test_pending_job_is_numbered(self, user_client, user):
        """Reading a job numbers it."""
        finish_job(row := job(user), uuid7())
        Job.objects.update(seq=None)
        assert user_client.get(job_url(row)).json()["seq"] > 0


class TestResult:
    @pytest.mark.parametrize("value", [{"rows": 3, "name": "ü"}, [], None, 0, "text"])
    def test_result(self, value, user_client, user):
        finish_job(row := job(user), uuid7(), value)
        response = user_client.get(job_url(row, "result/"))
        assert (response.status_code, response["Content-Type"]) == (200, "application/json")
        assert response.json() == value

    def test_not_done(self, user_client, user):
        """409 with Retry-After."""
        response = user_client.get(job_url(job(user), "result/"))
        assert "not done" in assert_problem(response, 409)["detail"]
        assert response["Retry-After"] == "1"

    def test_failed(self, user_client, user):
        """409 without Retry-After, and without the traceback."""
        row = job(user)
        (claimed,) = claim_rows(uuid7(), 1)
        record(failed(claimed, ValueError("secret")))
        response = user_client.get(job_url(row, "result/"))
        assert "failed" in assert_problem(response, 409)["detail"]
        assert "Retry-After" not in response
        assert b"secret" not in response.content


class TestCancel:
    def test_a_queued_job(self, user_client, user):
        """200: the job is cancelled and numbered, and links to retry."""
        row = job(user)
        response = cancel(user_client, row)
        data = response.json()
        assert response.status_code == 200
        assert (data["state"], data["done"], data["seq"]) == ("cancelled", True, 1)
        assert data["error"] == {"type": "cancelled", "title": "Cancelled", "detail": "It was cancelled."}
        assert data["links"]["cancel"] is None and data["links"]["retry"] == job_url(row, "retry/")
        assert data == user_client.get(job_url(row)).json()
        assert response["ETag"] == user_client.get(job_url(row))["ETag"]
        assert not Notification.objects.exists(), "users are not notified of their own cancellation"
        assert cancel(user_client, row).status_code == 200, "cancelling again must not fail"

    def test_a_running_job(self, user_client, user):
        """202: the job runs until its task ends."""
        row = job(user)
        claim_rows(uuid7(), 1)
        before = user_client.get(job_url(row))["ETag"]
        response = cancel(user_client, row)
        data = response.json()
        assert (response.status_code, data["state"]) == (202, "running")
        assert response["Retry-After"] == "1" and response["ETag"] != before
        assert cancel(user_client, row).status_code == 202
        assert not Job.objects.get().cancelled_by_other

    def test_a_finished_job(self, user_client, user):
        finish_job(row := job(user), uuid7())
        assert "has already succeeded" in assert_problem(cancel(user_client, row), 409)["detail"]
        failed = tasks.fail.using(owner=user).enqueue()
        run_jobs()
        assert "has already failed" in assert_problem(cancel(user_client, Job(id=failed.id)), 409)["detail"]

    def test_cancel_link(self, user_client, user):
        """Active jobs link to cancel."""
        assert user_client.get(job_url(row := job(user))).json()["links"]["cancel"] == job_url(row, "cancel/")


class TestRetry:
    @pytest.fixture
    def failed(self, user):
        id = tasks.fail.using(owner=user).enqueue().id
        run_jobs()
        return Job.objects.get(id=id)

    def test_a_failed_job(self, user_client, failed):
        response = retry(user_client, failed)
        data = response.json()
        assert response.status_code == 202
        assert (data["state"], data["seq"], data["error"], data["finished_at"]) == ("queued", 0, None, None)
        assert (data["attempt"], data["max_attempts"]) == (1, 4)
        assert data["version"] == failed.version + 1
        assert_problem(retry(user_client, failed), 409)

    def test_a_cancelled_job(self, user_client, user):
        cancel(user_client, row := job(user))
        assert retry(user_client, row).json()["state"] == "queued"

    def test_other_states(self, user_client, user):
        row = job(user)
        assert "Only a failed or cancelled job" in assert_problem(retry(user_client, row), 409)["detail"]
        finish_job(row, uuid7())
        assert_problem(retry(user_client, row), 409)

    def test_too_many_active_jobs(self, user_client, user, failed, settings):
        settings.NOTIFICATIONS = {**settings.NOTIFICATIONS, "ACTIVE_JOBS_PER_USER": 1}
        job(user)
        response = retry(user_client, failed)
        assert_problem(response, 429)
        assert int(response["Retry-After"]) > 0


@pytest.mark.parametrize("verb", ["cancel/", "retry/"])
class TestAccess:
    def test_jobs_of_other_users_are_not_found(self, verb, user_client, other_user):
        row = job(other_user)
        data = [user_client.post(job_url(each, verb)) for each in (row, Job())]
        assert_problem(data[0], 404)
        assert data[0].content == data[1].content
        assert Job.objects.get().version == 1

    def test_signed_out_and_method_not_allowed(self, verb, user_client, user):
        row = job(user)
        assert_problem(Client().post(job_url(row, verb)), 401)
        response = user_client.get(job_url(row, verb))
        assert_problem(response, 405)
        assert response["Allow"] == "POST"

    def test_csrf(self, verb, user, client_of):
        strict = client_of(user, enforce_csrf_checks=True)
        assert_problem(strict.post(job_url(job(user), verb)), 403)
        assert Job.objects.get().state == "queued"
