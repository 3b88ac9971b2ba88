"""``JOBS_PER_MINUTE``: how many requests of a user can enqueue jobs in a minute."""

import json
import pickle
import re
from datetime import timedelta
from uuid import UUID, uuid4

import pytest
from django.db import connection, transaction
from django.db.models import F
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from notifications.api import requester
from notifications.exceptions import JobRateExceeded
from notifications.jobs import limits
from notifications.models import Job
from tests.http.conftest import assert_problem
from tests.http.test_idempotency import count_rows, post
from tests.http.views import double

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.nightly_on_postgres,
    pytest.mark.nightly_on_old_django,
]


@pytest.fixture
def as_new_process(monkeypatch):
    """Forget the retries that this process has counted."""
    return lambda: monkeypatch.setattr(limits, "_retries", {})


@pytest.fixture(autouse=True)
def limit_to_three(settings, as_new_process):
    as_new_process()
    settings.NOTIFICATIONS = {**settings.NOTIFICATIONS, "JOBS_PER_MINUTE": 3}


def post_once(client, path="/plain/", key=None):
    return post(client, path, key={"Idempotency-Key": key} if key else {})


def age_jobs(seconds):
    """Make all jobs older by this many seconds."""
    age = timedelta(seconds=seconds)
    Job.objects.update(created_at=F("created_at") - age, queued_at=F("queued_at") - age)


def test_limit(user_client, other_user, client_of):
    """429 with the seconds until the next request is allowed. Other users are not affected."""
    for _ in range(3):
        assert post_once(user_client).status_code == 202
        age_jobs(10)
    response = post_once(user_client)
    data = assert_problem(response, 429)
    assert 15 <= int(response["Retry-After"]) <= 30  # the first is 30 s old
    assert (
        data["detail"] == f"3 jobs were enqueued within a minute. Try again in {response['Retry-After']} s."
    )
    assert count_rows() == (3, 3)
    assert post_once(client_of(other_user)).status_code == 202
    age_jobs(int(response["Retry-After"]))
    assert post_once(user_client).status_code == 202
    assert_problem(post_once(user_client), 429)


@pytest.mark.parametrize("path", ["/plain/", "/async/", "/batch/"])
def test_jobs_of_code_count(path, user_client, user):
    with requester(user):
        for _ in range(3):
            double.enqueue()
    assert_problem(post_once(user_client, path), 429)
    assert count_rows() == (3, 0)


def test_old_jobs_whose_ids_do_not_ascend_do_not_count(user_client, user):
    """The clock of a machine may be ahead of the others."""
    then = timezone.now() - timedelta(hours=1)
    for _ in range(3):
        Job.objects.create(
            id=UUID(int=uuid4().int | 0xF << 124),  # above each id of version 7
            user=user,
            task_path="x",
            backend="default",
            queue_name="default",
            state="succeeded",
            title="Old",
            created_at=then,
            queued_at=then,
        )
    assert post_once(user_client).status_code == 202


def test_replays_are_not_limited(user_client):
    """They do not count either."""
    for key in "abc":
        post_once(user_client, key=key)
    assert_problem(post_once(user_client, key="d"), 429)
    for key in "abc":
        assert post_once(user_client, key=key)["Idempotency-Replayed"] == "true"


def test_anonymous_requests_are_not_limited():
    """The limit is one of users, as that of active jobs."""
    for _ in range(5):
        assert post_once(Client()).status_code == 202


def test_code_is_not_limited(user_client, user):
    with requester(user):
        for _ in range(5):
            double.enqueue()
    assert Job.objects.count() == 5


def test_one_request_can_enqueue_several_jobs(user_client):
    """The limit is checked once in a request. Otherwise a request with many jobs could never succeed."""
    for _ in range(2):
        assert post_once(user_client).status_code == 202
    assert post_once(user_client, "/many/").status_code == 202
    assert Job.objects.count() == 7


def test_retries_by_hand_count(user_client, user, client_of, other_user):
    """Each of them, also of one job that is cancelled and retried again and again."""
    [job] = [post_once(user_client).json()["id"]]
    for _ in range(2):
        user_client.post(f"/notifications/api/jobs/{job}/cancel/")
        assert user_client.post(f"/notifications/api/jobs/{job}/retry/").status_code == 202
    user_client.post(f"/notifications/api/jobs/{job}/cancel/")
    response = user_client.post(f"/notifications/api/jobs/{job}/retry/")
    assert_problem(response, 429)
    assert 1 <= int(response["Retry-After"]) <= 60
    assert_problem(post_once(user_client), 429)
    page = user_client.post(f"/notifications/jobs/{job}/retry/")
    assert page.status_code == 429 and "within a minute" in page.content.decode()
    assert Job.objects.get().state == "cancelled"
    assert post_once(client_of(other_user)).status_code == 202
    age_jobs(60)
    assert post_once(user_client).status_code == 202


def test_retries_by_hand_count_over_all_processes(user_client, as_new_process):
    """Those of different jobs. Each process has a memory of its own."""
    jobs = [post_once(user_client).json()["id"] for _ in range(3)]
    age_jobs(61)
    for job in jobs:
        user_client.post(f"/notifications/api/jobs/{job}/cancel/")
        assert user_client.post(f"/notifications/api/jobs/{job}/retry/").status_code == 202
        as_new_process()
    response = post_once(user_client)
    assert_problem(response, 429)
    assert 1 <= int(response["Retry-After"]) <= 60
    age_jobs(61)
    assert post_once(user_client).status_code == 202


def test_retries_alone_fill_the_limit(user_client):
    job = post_once(user_client).json()["id"]
    age_jobs(61)
    for status in (202, 202, 202, 429):
        user_client.post(f"/notifications/api/jobs/{job}/cancel/")
        assert user_client.post(f"/notifications/api/jobs/{job}/retry/").status_code == status
    assert_problem(post_once(user_client), 429)


def test_limit_of_active_jobs_comes_first(user_client, settings):
    """Waiting for a minute would not help."""
    settings.NOTIFICATIONS = {**settings.NOTIFICATIONS, "ACTIVE_JOBS_PER_USER": 3}
    for _ in range(3):
        post_once(user_client)
    assert "3 active jobs" in assert_problem(post_once(user_client), 429)["detail"]


def test_query_uses_an_index(user, user_client):
    """It reads the user's jobs of the last minute only, and none of other users."""
    now = timezone.now()
    Job.objects.bulk_create(
        Job(user_id=user.pk + 1 + number % 100, created_at=now, queued_at=now) for number in range(1_000)
    )
    with CaptureQueriesContext(connection) as queries:
        post_once(user_client)
    [sql] = [query["sql"] for query in queries if "queued_at >" in query["sql"]]
    with transaction.atomic(), connection.cursor() as cursor:
        if connection.vendor == "sqlite":
            cursor.execute(f"EXPLAIN QUERY PLAN {sql}")
            plan = json.dumps(cursor.fetchall())
            for index, column in (("user", "created_at"), ("retried", "queued_at")):
                assert f"INDEX notifications_job_{index} (user_id=? AND {column}>?" in plan, plan
        else:
            cursor.execute("ANALYZE notifications_job")
            cursor.execute("SET LOCAL enable_seqscan = off")
            cursor.execute(f"EXPLAIN {sql}")
            plan = json.dumps(cursor.fetchall())
            assert "notifications_job_user" in plan and "notifications_job_retried" in plan, plan
            assert len(re.findall(r"Index Cond: \(\(user_id = \d+\) AND \(\w+_at >", plan)) == 2, plan


def test_error_can_be_pickled():
    error = pickle.loads(pickle.dumps(JobRateExceeded(3, 7)))
    assert (str(error), error.retry_after) == ("3 jobs were enqueued within a minute. Try again in 7 s.", 7)
