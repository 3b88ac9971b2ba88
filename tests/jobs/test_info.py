"""Reading jobs through the public API."""

from datetime import UTC, timedelta
from uuid import UUID

import pytest
from asgiref.sync import sync_to_async
from django.db import connection, transaction
from django.utils import timezone

from notifications.api import (
    aget_job,
    aget_jobs,
    ajobs_of,
    get_job,
    get_jobs,
    jobs_of,
    release_connections,
)
from notifications.exceptions import JobDoesNotExist
from notifications.jobs import cancel
from notifications.models import Job
from notifications.testing import run_jobs
from tests.jobs import tasks

pytestmark = [pytest.mark.django_db, pytest.mark.nightly_on_postgres, pytest.mark.nightly_on_old_django]

UNKNOWN_ID = UUID(int=1)


class TestGetJob:
    def test_queued(self, user):
        enqueued = tasks.add.using(owner=user, title="Sum", url="/sums/1/").enqueue(1, 2)
        job = get_job(enqueued.id)
        assert (str(job.id), job.owner_id, job.title, job.url) == (enqueued.id, user.pk, "Sum", "/sums/1/")
        assert (job.state, job.is_done, job.attempt) == ("queued", False, 0)
        assert (job.task_path, job.queue_name) == ("tests.jobs.tasks.add", "default")
        assert (job.result, job.error, job.started_at, job.finished_at) == (None, None, None, None)
        assert job.created_at.tzinfo is UTC

    def test_succeeded(self):
        enqueued = tasks.add.enqueue(1, 2)
        before = get_job(enqueued.id)
        run_jobs()
        job = get_job(before.id)
        assert (job.state, job.is_done, job.result, job.error, job.attempt) == ("succeeded", True, 3, None, 1)
        assert job.created_at <= job.started_at <= job.finished_at
        assert before.state == "queued"

    def test_failed(self):
        enqueued = tasks.fail.enqueue()
        run_jobs()
        job = get_job(enqueued.id)
        assert (job.state, job.is_done, job.result) == ("failed", True, None)
        assert set(job.error) == {"type", "title", "detail"}

    def test_damaged(self, caplog):
        """Fields that another program has filled with invalid JSON are read as None, and the row is logged."""
        enqueued = tasks.add.enqueue(1, 2)
        Job.objects.update(result="{", error="[" * 100_000)
        job = get_job(enqueued.id)
        assert (job.result, job.error) == (None, None)
        assert f"Damaged row: job {enqueued.id}" in caplog.text

    @pytest.mark.django_db(transaction=True)
    def test_cancelled(self):
        enqueued = tasks.noop.enqueue()
        cancel([UUID(enqueued.id)])
        job = get_job(enqueued.id)
        assert (job.state, job.is_done, job.error["type"]) == ("cancelled", True, "cancelled")

    @pytest.mark.parametrize("id", [UNKNOWN_ID, str(UNKNOWN_ID), "not a UUID"])
    def test_an_unknown_id(self, id):
        with pytest.raises(JobDoesNotExist, match=str(id)):
            get_job(id)

    def test_an_id_of_another_type(self):
        with pytest.raises(TypeError, match="must be a UUID or a string, not int"):
            get_job(1)


def test_get_jobs_reads_once_and_omits_unknown_ids(django_assert_num_queries):
    ids = [tasks.noop.enqueue().id for _ in range(2)]
    with django_assert_num_queries(1):
        jobs = get_jobs([*ids, UNKNOWN_ID, "not a UUID"])
    assert {str(id) for id in jobs} == set(ids)
    assert get_jobs([]) == {}


class TestJobsOf:
    def test_newest_first(self, user, other_user, django_assert_num_queries):
        ids = [tasks.noop.using(owner=user).enqueue().id for _ in range(3)]
        tasks.noop.using(owner=other_user).enqueue()
        tasks.noop.enqueue()
        with django_assert_num_queries(1):
            assert [str(job.id) for job in jobs_of(user)] == ids[::-1]
        assert [str(job.id) for job in jobs_of(user.pk, limit=2)] == ids[:0:-1]

    def test_by_time_where_ids_do_not_ascend(self, user):
        """The clocks of two machines differ."""
        ids = [tasks.noop.using(owner=user).enqueue().id for _ in range(3)]
        Job.objects.filter(pk=ids[0]).update(created_at=timezone.now() + timedelta(seconds=5))
        assert [str(job.id) for job in jobs_of(user)] == [ids[0], ids[2], ids[1]]

    @pytest.mark.parametrize("limit", [0, -1, True, "5"])
    def test_a_wrong_limit(self, user, limit):
        with pytest.raises(ValueError, match=r"It must be an integer of 1 or more\."):
            jobs_of(user, limit=limit)

    def test_none_instead_of_a_user(self):
        with pytest.raises(
            ValueError, match=r"None is not a saved user\. Pass a saved user or its primary key\."
        ):
            jobs_of(None)


@pytest.mark.django_db(transaction=True)
async def test_async_twins(event_loop_database, user):
    enqueued = await tasks.noop.using(owner=user).aenqueue()
    job = await aget_job(enqueued.id)
    assert await aget_jobs([enqueued.id]) == {job.id: job}
    assert await ajobs_of(user) == [job]


@pytest.mark.django_db(transaction=True)
async def test_release_connections(event_loop_database):
    """Close the connection of the request, but not inside a transaction."""
    await Job.objects.acount()
    assert await sync_to_async(lambda: connection.connection is not None)()
    await release_connections()
    assert await sync_to_async(lambda: connection.connection is None)()

    await sync_to_async(transaction.set_autocommit)(False)
    try:
        await Job.objects.acount()
        await release_connections()
        assert await sync_to_async(lambda: connection.connection is not None)()
    finally:
        await sync_to_async(transaction.rollback)()
        await sync_to_async(transaction.set_autocommit)(True)
