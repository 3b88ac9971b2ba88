"""The tasks of a group or chord are one batch: one progress, one notification."""

import uuid

import pytest
from django.db import transaction
from django.db.models import Q

from notifications.api import requester
from notifications.models import Job, Notification
from tests.contrib.celery.conftest import bell_of, until_ended, until_row
from tests.support.waiting import wait_until

celery = pytest.importorskip("celery", reason="Celery is not installed.")
chain, chord, group = celery.chain, celery.chord, celery.group

pytestmark = pytest.mark.usefixtures("worker")

BATCH = "notifications.jobs.batches.batch"


@pytest.fixture
def tasks():
    from tests.contrib.celery import tasks

    return tasks


def jobs_of(*users):
    """Return the jobs of these users, and of their batches. A job of an earlier test may be recorded late."""
    own = Job.objects.filter(user__in=users)
    return Job.objects.filter(Q(id__in=own.values("id")) | Q(batch__in=own.values("id")))


def batch_of(user):
    return Job.objects.get(user=user, task_path=BATCH)


def members_of(batch):
    return Job.objects.filter(batch=batch)


def until_all_ended(count, *users, timeout=90):
    """Wait until these users have this many batches and jobs, and all are done."""

    def ended():
        jobs = list(jobs_of(*users))
        return jobs if len(jobs) == count and all(job.done for job in jobs) else None

    try:
        return wait_until(ended, timeout=timeout, what=f"{count} jobs to end")
    except AssertionError as error:
        rows = jobs_of(*users).values_list("id", "state", "worker", "open_until", "batch", "progress_current")
        raise AssertionError(f"{error} {list(rows)}") from None


def test_a_group_notifies_once_and_has_the_id_of_celery(tasks, user):
    result = group(tasks.export.s(user.pk, year) for year in range(10))()
    batch = until_ended(result.id)
    assert (batch.state, batch.title, batch.user_id) == ("succeeded", "Export: 10 jobs", user.pk)
    assert batch.result == '{"succeeded": 10, "failed": 0, "cancelled": 0}'
    assert (batch.progress_current, batch.progress_total, batch.executor) == (10, 10, "observed")
    assert set(members_of(batch.id).values_list("user_id", "state")) == {(None, "succeeded")}
    assert {str(id) for id in members_of(batch.id).values_list("id", flat=True)} == {r.id for r in result}
    assert bell_of(user) == [("Export: 10 jobs", "All 10 jobs succeeded.", "success")]
    assert len(result.get(timeout=30)) == 10


def test_the_progress_of_the_whole_is_that_of_the_batch(tasks, user, tmp_path):
    path = tmp_path / "gate"
    result = group(tasks.export.s(user.pk, 1), tasks.export.s(user.pk, 2), tasks.hold.s(user.pk, str(path)))()
    batch = until_row(result.id, progress_current=2)
    assert (batch.state, batch.progress_total, batch.title) == ("running", 3, "3 jobs")
    assert bell_of(user) == []
    path.touch()
    assert until_ended(result.id).state == "succeeded"
    assert bell_of(user) == [("3 jobs", "All 3 jobs succeeded.", "success")]


def test_failed_tasks_are_counted(tasks, user):
    result = group(tasks.fail.s(user.pk), tasks.export.s(user.pk, 1), tasks.export.s(user.pk, 2))()
    batch = until_ended(result.id)
    assert (batch.state, '"type": "batch-failed"' in batch.error) == ("failed", True)
    assert bell_of(user) == [("3 jobs", "1 of 3 failed.", "error")]


def test_each_owner_has_a_batch_of_the_own_tasks(tasks, user, other_user):
    result = group(
        tasks.export.s(user.pk, 1), tasks.export.s(other_user.pk, 2), tasks.export.s(other_user.pk, 3)
    )()
    jobs = until_all_ended(5, user, other_user)
    assert {job.user_id for job in jobs if job.task_path == BATCH} == {user.pk, other_user.pk}
    assert str(batch_of(user).id) == result.id
    assert bell_of(user) == [("Export 1", "Succeeded.", "success")]
    assert bell_of(other_user) == [("Export: 2 jobs", "All 2 jobs succeeded.", "success")]


def test_publisher_waits_once_for_all_batches_of_a_group(tasks, monkeypatch, django_user_model):
    """Not for one after another: a group may have tasks of many owners."""
    from notifications.contrib.celery.recorder import MAX_WAIT_SECONDS, Recorder

    waits, call = [], Recorder.call

    def record_wait(self, function, *, wait=MAX_WAIT_SECONDS, **options):
        waits.append(wait)
        call(self, function, wait=wait, **options)

    monkeypatch.setattr(Recorder, "call", record_wait)
    users = [django_user_model.objects.create_user(f"member {number}") for number in range(5)]
    group(tasks.export.s(each.pk, 1) for each in users)()
    assert waits == [0, 0, 0, 0, MAX_WAIT_SECONDS]
    jobs = until_all_ended(10, *users)
    assert {job.state for job in jobs} == {"succeeded"}


def test_one_task_in_a_group_reads_as_by_itself(tasks, user):
    result = group(tasks.exceed_soft_limit.s(user.pk))()
    assert until_ended(result.id).state == "failed"
    assert bell_of(user) == [("Soft limit", "It took longer than it may take.", "error")]


def test_a_batch_stays_open_while_its_group_is_published(tasks, user):
    """The first job has ended before the last one is published: Celery does not say how many there will be."""
    seen = []

    def publish_slowly():
        yield tasks.export.s(user.pk, 1)
        yield tasks.export.s(user.pk, 2)
        wait_until(lambda: jobs_of(user).filter(state="succeeded").exists(), what="the first task")
        seen.append((batch_of(user).state, bell_of(user)))
        yield tasks.export.s(user.pk, 3)

    result = group(publish_slowly())()
    assert until_ended(result.id).progress_total == 3
    assert seen == [("running", [])]
    assert bell_of(user) == [("Export: 3 jobs", "All 3 jobs succeeded.", "success")]


def test_a_group_whose_publishing_fails_has_the_jobs_that_were_published(tasks, user):
    def publish_until_error():
        yield tasks.export.s(user.pk, 1)
        yield tasks.export.s(user.pk, 2)
        yield tasks.export.s(user.pk, 3)
        raise OSError("no more")

    with pytest.raises(OSError, match="no more"):
        group(publish_until_error())()
    [batch] = [job for job in until_all_ended(3, user) if job.task_path == BATCH]
    assert (batch.state, batch.progress_total) == ("succeeded", 2)
    assert len(bell_of(user)) == 1


def test_a_group_without_an_owner_notifies_no_one(tasks):
    result = group(tasks.add.s(1, 1), tasks.add.s(2, 2))()
    assert until_ended(result.id).user_id is None
    jobs = [result.id, *(child.id for child in result)]
    assert not Notification.objects.filter(job__in=jobs).exists()


def test_the_body_of_a_chord_is_the_last_job_of_its_batch(tasks, user):
    with requester(user):
        result = chord([tasks.add.s(1, 1), tasks.add.s(2, 2)], tasks.collect.s())()
    batch = until_ended(result.parent.id)
    assert result.get(timeout=30) == 6
    assert (batch.state, batch.progress_total, members_of(batch.id).count()) == ("succeeded", 3, 3)
    body = Job.objects.get(id=result.id)
    assert (body.batch, body.state, body.user_id) == (batch.id, "succeeded", None)
    assert bell_of(user) == [("Add: 3 jobs", "All 3 jobs succeeded.", "success")]


def test_a_chord_whose_header_fails_ends_without_its_body(tasks, user):
    result = chord([tasks.fail.s(user.pk), tasks.export.s(user.pk, 1)], tasks.collect.si(user.pk))()
    batch = until_ended(result.parent.id)
    assert (batch.state, members_of(batch.id).count()) == ("failed", 2)
    assert bell_of(user) == [("3 jobs", "1 of 2 failed.", "error")]


def test_a_chord_with_a_body_that_is_not_observed(tasks, user):
    with requester(user):
        result = chord([tasks.add.s(1, 1), tasks.add.s(2, 2)], tasks.plain.s())()
    assert result.get(timeout=30) == [2, 4]
    until_ended(result.parent.id)
    assert bell_of(user) == [("Add: 2 jobs", "All 2 jobs succeeded.", "success")]


def test_silent_tasks_with_an_observed_body_notify_of_the_body(tasks, user):
    """As without batches: this is how a chord was made to notify once."""
    result = chord([tasks.silent.s(user.pk), tasks.silent.s(user.pk)], tasks.export.si(user.pk, 9))()
    until_ended(result.id)
    assert not jobs_of(user).filter(task_path=BATCH).exists()
    assert bell_of(user) == [("Export 9", "Succeeded.", "success")]


def test_chains_nested_groups_and_chords_in_a_group_are_one_batch(tasks, user):
    with requester(user):
        result = group(
            chain(tasks.add.s(1, 1), tasks.add.s(1)),
            group(tasks.add.s(3, 3), tasks.add.s(4, 4)),
            chord([tasks.add.s(5, 5), tasks.add.s(6, 6)], tasks.collect.s()),
        )()
    batch = until_ended(result.id)
    assert (batch.state, members_of(batch.id).count(), batch.progress_total) == ("succeeded", 7, 7)
    assert set(jobs_of(user)) == {batch, *members_of(batch.id)}
    assert bell_of(user) == [("Add: 7 jobs", "All 7 jobs succeeded.", "success")]


def test_a_group_at_the_end_of_a_chain(tasks, user):
    """Celery publishes it before the task in front of it has ended, so that either may be the first to end."""
    with requester(user):
        chain(tasks.add.s(1, 1), group(tasks.add.s(1), tasks.add.s(2)))()
    until_all_ended(4, user)
    assert sorted(bell_of(user)) == [
        ("Add 1 and 1", "Succeeded.", "success"),
        ("Add: 2 jobs", "All 2 jobs succeeded.", "success"),
    ]


def test_chunks_keep_working(tasks, user):
    with requester(user):
        assert tasks.add.chunks([(1, 1), (2, 2), (3, 3)], 2)().get(timeout=30) == [[2, 4], [6]]
    assert not jobs_of(user).exists()


def test_retries_and_replaced_tasks_stay_in_the_batch(tasks, user):
    result = group(tasks.retried.s(user.pk, 2), tasks.replace_itself.s(user.pk))()
    batch = until_ended(result.id)
    assert (batch.state, members_of(batch.id).count()) == ("succeeded", 2)
    assert bell_of(user) == [("2 jobs", "All 2 jobs succeeded.", "success")]


def test_what_a_member_enqueues_belongs_to_the_owner_but_not_to_the_batch(tasks, user):
    result = group(tasks.enqueue_child.s(user.pk), tasks.export.s(user.pk, 1))()
    until_all_ended(4, user)
    child = jobs_of(user).get(title="Add 20 and 22")
    assert (child.batch, child.user_id) == (None, user.pk)
    assert members_of(result.id).count() == 2
    assert len(bell_of(user)) == 2


def test_in_a_transaction(tasks, user):
    with transaction.atomic():
        result = group(tasks.export.s(user.pk, 1), tasks.export.s(user.pk, 2))()
    assert until_ended(result.id).progress_total == 2
    assert len(bell_of(user)) == 1


def test_after_a_rollback_the_batch_of_the_workers_ends(tasks, user, monkeypatch):
    """It is open until its time is over, because no publisher closes it."""
    from notifications.contrib.celery import messages

    class Boom(Exception):
        pass

    with pytest.raises(Boom), transaction.atomic():
        result = group(tasks.export.s(user.pk, 1), tasks.export.s(user.pk, 2))()
        raise Boom
    batch = until_ended(result.id, timeout=messages.OPEN_SECONDS + 60)
    assert (batch.state, batch.progress_total) == ("succeeded", 2)
    assert bell_of(user) == [("Export", "All 2 jobs succeeded.", "success")]


def test_canceling_the_batch_revokes_its_tasks(tasks, user, user_client):
    result = group(tasks.export.s(user.pk, 1), tasks.export.s(user.pk, 2)).apply_async(countdown=3600)
    until_row(result.id, open_until=None)
    response = user_client.post(f"/notifications/api/jobs/{result.id}/cancel/")
    assert response.status_code in (200, 202), response.content
    batch = until_ended(result.id)
    assert batch.state == "cancelled"
    assert set(members_of(batch.id).values_list("state", flat=True)) == {"cancelled"}
    assert bell_of(user) == []


def test_a_batch_of_celery_cannot_be_retried_by_hand(tasks, user, user_client):
    result = group(tasks.fail.s(user.pk), tasks.fail.s(user.pk))()
    until_ended(result.id)
    response = user_client.post(f"/notifications/api/jobs/{result.id}/retry/")
    assert response.status_code == 409
    assert len(bell_of(user)) == 1


def test_a_task_with_the_id_of_a_batch_does_not_take_it(worker, tasks, user, tmp_path):
    path = tmp_path / "gate"
    result = group(tasks.hold.s(user.pk, str(path)), tasks.export.s(user.pk, 1))()
    until_row(result.id, progress_current=1)
    assert tasks.export.apply_async((user.pk, 3), task_id=result.id).get(timeout=30)
    worker.process.wait_for_line(f"or is another one: job {result.id}")
    batch = Job.objects.get(id=result.id)
    assert (batch.task_path, batch.state, batch.worker) == (BATCH, "running", None)
    path.touch()
    assert until_ended(result.id).state == "succeeded"


def test_a_group_with_an_id_that_is_no_uuid(tasks, user):
    group(tasks.export.s(user.pk, 1), tasks.export.s(user.pk, 2)).apply_async(task_id="mine")
    until_all_ended(3, user)
    assert isinstance(batch_of(user).id, uuid.UUID)
    assert len(bell_of(user)) == 1
