"""Batches: many jobs that are one to look at, to be told of, to wait for, to cancel and to try again."""

import asyncio
import json
import threading
import uuid
from contextlib import nullcontext
from datetime import timedelta

import pytest
from django.contrib.auth import get_user_model
from django.db import connections, transaction
from django.test import TestCase
from django.utils import timezone

from notifications.api import aaccepted, abatch, accepted, ajoin, batch, join, requester
from notifications.compat import task_backends, task_enqueued
from notifications.exceptions import JobCancelled, JobFailed, TooManyJobs
from notifications.jobs.policies import DEFAULT_POLICY
from notifications.jobs.transitions import (
    batch_completion,
    finishing,
    manual,
    outcomes,
    queueing,
    reaping,
    recording,
)
from notifications.models import Attempt, Job, Notification
from notifications.signals import job_finished, rung
from notifications.testing import connect, run_jobs
from tests.jobs import batch_tasks, tasks
from tests.jobs.conftest import notifications_of, until_done, until_state
from tests.support.claims import claim_rows
from tests.support.waiting import wait_until

ALL = {"succeeded": 0, "failed": 0, "cancelled": 0}


@pytest.fixture
def other(db):
    return get_user_model().objects.create_user("other")


@pytest.fixture
def always_report(monkeypatch):
    monkeypatch.setattr(batch_completion, "PROGRESS_INTERVAL_SECONDS", 0.0)


@pytest.fixture
def nobody_settles():
    """As if every process died after its jobs were stored and before their batch was settled, until it is called."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(finishing, "finish_batches", lambda batches: None)
        patch.setattr(manual, "finish_batches", lambda batches: None)
        yield patch.undo


def row(b):
    return Job.objects.get(id=b.id)


def jobs_of(b):
    return Job.objects.filter(batch=b.id).order_by("id")


def claim_all():
    worker = uuid.uuid4()
    return claim_rows(worker, 100)


def end(job, *, well=True):
    """Finish a claimed job as a worker does."""
    outcome = (
        outcomes.succeeded(job, DEFAULT_POLICY, 1)
        if well
        else outcomes.failed(job, DEFAULT_POLICY, ValueError("broken"))
    )
    finishing.finish_jobs([outcome])


# As one


def test_one_word_for_all(worker, demo):
    """Many jobs, one notification, and one result that counts them."""
    with batch(owner=demo, title="Numbers", url="/numbers/") as b:
        for number in range(5):
            tasks.echo.enqueue(number)
    assert join(b, timeout=20) == {**ALL, "succeeded": 5}
    (note,) = notifications_of(demo)
    assert (note.title, note.body, note.url, note.level, note.job) == (
        "Numbers",
        "All 5 jobs succeeded.",
        "/numbers/",
        "success",
        b.id,
    )
    job = row(b)
    assert (job.state, job.user_id, job.progress_current, job.progress_total) == ("succeeded", demo.pk, 5, 5)
    assert sorted([job.seq, note.seq]) == [1, 2]
    assert list(jobs_of(b).values_list("user", "state", "result")) == [
        (None, "succeeded", str(number)) for number in range(5)
    ]


async def test_async(event_loop_database, start_worker):
    await asyncio.to_thread(start_worker)
    async with abatch() as b:
        await asyncio.gather(*(tasks.echo.aenqueue(number) for number in range(5)))
    assert await ajoin(b, timeout=20) == {**ALL, "succeeded": 5}


def test_what_failed_is_counted(worker, demo):
    with batch(owner=demo) as b:
        for task in (tasks.noop, tasks.fail, tasks.fail_sync):
            task.enqueue()
    with pytest.raises(JobFailed, match=r"^2 of 3 failed\.$") as caught:
        join(b, timeout=20)
    assert caught.value.error == {"type": "batch-failed", "title": "Failed", "detail": "2 of 3 failed."}
    (note,) = notifications_of(demo)
    assert (note.title, note.body, note.level) == ("3 jobs", "2 of 3 failed.", "error")
    result = b.result
    result.refresh()
    assert result.status == "FAILED"
    assert [error.exception_class for error in result.errors] == [JobFailed]


@pytest.mark.django_db(transaction=True)
def test_a_batch_of_one_is_in_the_singular(demo):
    with batch(owner=demo):
        tasks.noop.enqueue()
    run_jobs()
    assert [(note.title, note.body) for note in notifications_of(demo)] == [("1 job", "1 job succeeded.")]


@pytest.mark.django_db(transaction=True)
def test_jobs_can_be_waited_for_one_by_one(worker):
    with batch() as b:
        results = [tasks.echo.enqueue(number) for number in range(3)]
    assert [join(result, timeout=20) for result in results] == [0, 1, 2]
    assert join(b.result, timeout=20) == {**ALL, "succeeded": 3}
    assert join(b.id, timeout=20) == {**ALL, "succeeded": 3}


# Enqueueing


@pytest.mark.django_db(transaction=True)
def test_an_error_inside_enqueues_nothing():
    with pytest.raises(ZeroDivisionError), batch() as b:
        tasks.noop.enqueue()
        1 / 0  # noqa: B018
    assert not Job.objects.exists()
    with pytest.raises(RuntimeError, match=r"The batch is enqueued at the end of its block"):
        b.result  # noqa: B018
    tasks.noop.enqueue()  # outside the batch again
    assert Job.objects.get().batch is None


@pytest.mark.django_db(transaction=True)
def test_nothing_is_inserted_before_the_end():
    with batch(title="Later") as b:
        result = tasks.add.enqueue(1, 2)
        assert (result.status, result.args) == ("READY", [1, 2])
        assert not Job.objects.exists()
    assert {str(job.id) for job in Job.objects.all()} == {result.id, str(b.id)}
    assert task_backends["default"].get_result(result.id).status == "READY"
    assert b.result.status == "RUNNING"
    assert (b.result.id, row(b).title) == (str(b.id), "Later")


@pytest.mark.django_db(transaction=True)
def test_task_enqueued_is_sent_when_they_are_there():
    seen = []

    def receive(task_result, **kwargs):
        seen.append((task_result.id, Job.objects.filter(id=task_result.id).exists()))

    task_enqueued.connect(receive)
    try:
        with batch() as b:
            results = [tasks.noop.enqueue() for _ in range(2)]
    finally:
        task_enqueued.disconnect(receive)
    assert seen == [(result.id, True) for result in [*results, b.result]]


@pytest.mark.django_db(transaction=True)
def test_a_callers_rollback_leaves_nothing(demo):
    with pytest.raises(ZeroDivisionError), transaction.atomic():
        with batch(owner=demo):
            tasks.noop.enqueue()
        assert Job.objects.count() == 2
        1 / 0  # noqa: B018
    assert not Job.objects.exists()


@pytest.mark.django_db(transaction=True)
def test_a_ring_comes_with_the_commit(demo):
    heard = []

    def hear(users, queue, **kwargs):
        heard.append((users, queue))

    rung.connect(hear)
    try:
        with transaction.atomic():
            with batch(owner=demo):
                tasks.noop.enqueue()
            assert heard == []
    finally:
        rung.disconnect(hear)
    assert heard == [([demo.pk], True)]


@pytest.mark.parametrize("inside", [True, False])
def test_an_empty_batch_is_done_at_once(demo, transactional_db, inside):
    """No worker is needed, in a transaction or without one."""
    with transaction.atomic() if inside else nullcontext(), batch(owner=demo, title="Nothing") as b:
        pass
    assert join(b) == ALL
    (note,) = notifications_of(demo)
    assert (note.title, note.body) == ("Nothing", "All 0 jobs succeeded.")


@pytest.mark.django_db(transaction=True)
def test_a_batch_is_entered_once():
    b = batch()
    with b, pytest.raises(RuntimeError, match=r"A batch can be entered once. Create a new one."):
        b.__enter__()
    with pytest.raises(RuntimeError, match=r"A batch can be entered once"), b:
        pass


async def test_what_goes_on_after_the_block_is_told_so(event_loop_database):
    """It would be in no batch, and nobody would know."""
    go = asyncio.Event()

    async def straggle():
        await go.wait()
        await tasks.noop.aenqueue()

    async with abatch():
        straggler = asyncio.create_task(straggle())
        await asyncio.sleep(0)
    go.set()
    with pytest.raises(
        RuntimeError, match=r"after the end of its batch.s block. Await what the block has started"
    ):
        await straggler


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"title": ""}, ValueError, "title is empty"),
        ({"title": "x" * 201}, ValueError, "title has 201 characters"),
        ({"url": "javascript:1"}, ValueError, "url is 'javascript:1'"),
        ({"notify": lambda done: None}, TypeError, "or a function at the top level of a module"),
        ({"notify": "tests.jobs.batch_tasks.words"}, TypeError, "or a function at the top level of a module"),
        ({"notify": 1}, TypeError, "or a function at the top level of a module"),
    ],
)
def test_what_cannot_be_a_batch(options, error, words):
    with pytest.raises(error, match=words):
        batch(**options)


def test_as_the_answer_to_a_request(demo, rf, transactional_db):
    """`ask` makes a batch: its row is the job that is accepted, owned by who asks."""
    request = rf.post("/", HTTP_ACCEPT="application/json")
    request.user = demo

    def ask():
        with batch(title="Asked") as b:
            tasks.noop.enqueue()
        return b.result

    response = accepted(request, ask)
    assert response.status_code == 202
    item = json.loads(response.content)
    assert (item["title"], item["state"], item["progress"]) == (
        "Asked",
        "running",
        {"current": 0, "total": 1, "message": ""},
    )
    assert Job.objects.get(user=demo).id == uuid.UUID(item["id"])
    assert asyncio.iscoroutinefunction(aaccepted)


# Owners


def test_jobs_work_for_the_owner_of_their_batch(demo, transactional_db):
    """What they enqueue is the owner's, from batches in batches too; they themselves are nobody's."""
    with batch(owner=demo, title="Outer"):
        tasks.ask_child.enqueue()
        with batch(title="Inner"):
            tasks.ask_child_sync.enqueue()
    run_jobs()
    assert set(Job.objects.filter(task_path__endswith="noop").values_list("user", flat=True)) == {demo.pk}
    assert Job.objects.filter(task_path__contains="ask_child", user=None).count() == 2
    assert sorted(note.title for note in notifications_of(demo)) == ["Noop", "Noop", "Outer"]


def test_a_batch_made_by_a_job(worker, demo):
    """It has the owner of the job, which waits for it."""
    result = batch_tasks.batch_in_a_job.using(owner=demo).enqueue(3)
    assert join(result, timeout=20) == {**ALL, "succeeded": 3}
    assert sorted(note.title for note in notifications_of(demo)) == ["Batch in a job", "Inner"]


def test_a_job_of_somebody_in_a_batch_tells_nobody(demo, other, transactional_db):
    with batch(owner=demo):
        tasks.noop.using(owner=other).enqueue()
    assert Job.objects.filter(user=other).count() == 1
    run_jobs()
    assert notifications_of(other) == []
    assert len(notifications_of(demo)) == 1


def test_what_limits_the_jobs_of_somebody_limits_those_of_a_batch(demo, other, transactional_db):
    """{owner} in a concurrency key is the owner of the batch; the batch itself takes no place in its queue."""
    with batch(owner=demo), batch():
        tasks.one_an_owner.enqueue()
    with requester(other), batch(owner=demo):
        tasks.one_an_owner.using(owner=other).enqueue()
    keys = Job.objects.exclude(concurrency_key="").order_by("id").values_list("concurrency_key", flat=True)
    assert list(keys) == [f"report:{demo.pk}", f"report:{other.pk}"]


def test_a_batch_takes_no_place_in_its_queue(demo, settings, start_worker):
    settings.TASKS = {"default": {**settings.TASKS["default"], "OPTIONS": {"limits": {"default": 1}}}}
    with batch(owner=demo) as b:
        tasks.noop.enqueue()
    start_worker()
    assert join(b, timeout=20)["succeeded"] == 1


def test_the_limit_of_active_jobs(demo, other, settings, transactional_db):
    """A batch counts as one, whatever is in it; jobs of somebody count as theirs."""
    settings.NOTIFICATIONS = {**settings.NOTIFICATIONS, "ACTIVE_JOBS_PER_USER": 2}
    for _ in range(2):
        with batch(owner=demo):
            for _ in range(5):
                tasks.noop.enqueue()
    with pytest.raises(TooManyJobs), batch(owner=demo):
        tasks.noop.enqueue()
    with batch():
        tasks.noop.using(owner=other).enqueue()
    with pytest.raises(TooManyJobs), batch():
        for _ in range(2):
            tasks.noop.using(owner=other).enqueue()
    assert Job.objects.filter(user=other).count() == 1
    assert Job.objects.count() == 2 * 6 + 2


# Words


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("fails", [False, True])
def test_words_of_ones_own(demo, fails):
    with batch(owner=demo, title="Mine", notify=batch_tasks.words):
        (tasks.fail if fails else tasks.noop).enqueue()
    run_jobs()
    (note,) = notifications_of(demo)
    assert (note.title, note.body) == (
        ("Mine: failed", "1 of 1 failed.") if fails else ("Mine: succeeded", str({**ALL, "succeeded": 1}))
    )


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("notify", [False, batch_tasks.silence])
def test_silence(demo, notify):
    with batch(owner=demo, notify=notify) as b:
        tasks.noop.enqueue()
    run_jobs()
    assert row(b).state == "succeeded"
    assert notifications_of(demo) == []


@pytest.mark.django_db(transaction=True)
def test_words_that_a_later_version_does_not_have(demo, caplog):
    with batch(owner=demo, title="Old", notify=batch_tasks.words):
        tasks.noop.enqueue()
    Job.objects.filter(user=demo).update(kwargs='{"notify":"tests.jobs.batch_tasks.gone"}')
    run_jobs()
    assert [note.title for note in notifications_of(demo)] == ["Old"]
    assert "Could not import the notify function of batch" in caplog.text


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("path", ["tests.jobs.batch_tasks.tasks", "module_that_fails.words"])
def test_words_that_cannot_be_had(demo, path, tmp_path, monkeypatch):
    """Not a function, or in a module that this process cannot import: no other batch waits for that."""
    (tmp_path / "module_that_fails.py").write_text("raise RuntimeError")
    monkeypatch.syspath_prepend(tmp_path)
    for title, words in (("One", path), ("Two", "tests.jobs.batch_tasks.words")):
        with batch(owner=demo, title=title) as b:
            pass
        Job.objects.filter(id=b.id).update(
            kwargs=json.dumps({"notify": words}), state="running", seq=0, finished_at=None
        )
    Notification.objects.all().delete()
    finishing.finish_remaining_batches()
    assert {note.title for note in notifications_of(demo)} == {"One", "Two: succeeded"}


@pytest.mark.django_db(transaction=True)
def test_words_that_end_the_process(demo, caplog):
    """The default ones are in their place."""
    with batch(owner=demo, title="Any", notify=batch_tasks.leave) as b:
        tasks.noop.enqueue()
    run_jobs()
    assert row(b).state == "succeeded"
    assert [note.title for note in notifications_of(demo)] == ["Any"]
    assert "Host code failed: notify function of notifications.jobs.batches.batch" in caplog.text


@pytest.mark.django_db(transaction=True)
def test_one_whose_outcome_cannot_be_told(demo, monkeypatch, caplog):
    """It is over all the same, and so are the others."""
    of_batch = outcomes.of_batch

    def fail_for_one(job, *args, **counts):
        if job.title == "One":
            raise RuntimeError("no words")
        return of_batch(job, *args, **counts)

    monkeypatch.setattr(outcomes, "of_batch", fail_for_one)
    for title in ("One", "Two"):
        with batch(owner=demo, title=title):
            tasks.noop.enqueue()
    run_jobs()
    assert [job.state for job in Job.objects.filter(user=demo).order_by("id")] == ["failed", "succeeded"]
    assert [note.title for note in notifications_of(demo)] == ["Two"]
    assert "Could not make the outcome of batch" in caplog.text


# Progress


def test_the_progress_of_the_whole(demo, always_report, transactional_db):
    """Each end moves it, with a ring for the owner; failures are counted in its words."""
    with batch(owner=demo) as b:
        for _ in range(4):
            tasks.noop.enqueue()
    heard, seen = [], []

    def hear(users, **kwargs):
        heard.extend(users)

    rung.connect(hear)
    try:
        for number, job in enumerate(claim_all()):
            heard.clear()
            end(job, well=number != 1)
            state = row(b)
            seen.append((state.progress_current, state.progress_message, state.state, heard == [demo.pk]))
    finally:
        rung.disconnect(hear)
    assert seen[:3] == [
        (1, "", "running", True),
        (2, "1 failed", "running", True),
        (3, "1 failed", "running", True),
    ]
    assert seen[3][:3] == (4, "", "failed")


def test_a_browser_sees_it_move(demo, always_report, transactional_db):
    """One job in its list, whose progress counts the others, and one notification."""
    with connect(demo) as client:
        with batch(owner=demo) as b:
            for _ in range(3):
                tasks.noop.enqueue()
        for number, job in enumerate(claim_all()):
            item = client.until(
                lambda client, number=number: next(
                    (item for item in client.jobs.values() if item["progress"]["current"] == number), None
                )
            )
            assert (item["id"], item["state"], item["progress"]["total"]) == (str(b.id), "running", 3)
            end(job)
        assert client.notification("3 jobs")["job"] == str(b.id)
        assert client.jobs.keys() == {str(b.id)}
        assert client.unread == 1


def test_progress_never_goes_back(demo, always_report, transactional_db, monkeypatch):
    """Of two who report at a time, the one who counted less comes later."""
    with batch(owner=demo) as b:
        for _ in range(3):
            tasks.noop.enqueue()
    first, second, _ = claim_all()
    counts, early = batch_completion._count_states, []

    def count_too_early(id):
        found = counts(id)
        if not early:
            early.append(found)
            end(second)
        return found

    monkeypatch.setattr(batch_completion, "_count_states", count_too_early)
    end(first)
    assert sum(early[0][state] for state in ("succeeded",)) == 1
    assert row(b).progress_current == 2


def test_progress_is_written_now_and_then(demo, transactional_db, monkeypatch):
    """Not for each job, but the last word is in time: a worker looks at it within a second."""
    monkeypatch.setattr(batch_completion, "PROGRESS_INTERVAL_SECONDS", 1_000.0)
    with batch(owner=demo) as b:
        for _ in range(4):
            tasks.noop.enqueue()
    claimed = claim_all()
    for job in claimed[:3]:
        end(job)
    assert row(b).progress_current == 1
    monkeypatch.setattr(batch_completion, "PROGRESS_INTERVAL_SECONDS", 0.0)
    finishing.finish_remaining_batches()
    assert row(b).progress_current == 3
    end(claimed[3])
    assert b.id not in batch_completion._stored_at
    assert b.id not in batch_completion._with_unstored_progress


# Settling


def test_two_who_finish_the_last_ones_at_once(demo, transactional_db):
    """Both see that nothing is active any more; one of them ends the batch."""
    with batch(owner=demo) as b:
        for _ in range(2):
            tasks.noop.enqueue()
    finished = []

    def count(job, **kwargs):
        finished.append(job.id)

    jobs = claim_all()
    recording.record_outcomes([outcomes.succeeded(job, DEFAULT_POLICY, 1) for job in jobs])
    first, second = batch_completion.collect_outcomes([b.id]), batch_completion.collect_outcomes([b.id])
    assert len(first) == len(second) == 1
    job_finished.connect(count)
    try:
        finishing.finish_jobs(first)
        finishing.finish_jobs(second)
    finally:
        job_finished.disconnect(count)
    assert finished == [b.id]
    assert len(notifications_of(demo)) == 1
    assert batch_completion.collect_outcomes([b.id]) == []


def test_threads_that_finish_jobs_of_one_batch(demo, transactional_db):
    """Round after round, at the same moment: it is always ended, and told once."""
    batches = []
    for _ in range(15):
        with batch(owner=demo) as b:
            for _ in range(4):
                tasks.noop.enqueue()
        batches.append(b)
        together, errors = threading.Barrier(4), []

        def finish(job, together=together, errors=errors):
            try:
                together.wait(20)
                end(job)
            except Exception as exc:
                errors.append(exc)
            finally:
                connections.close_all()

        threads = [threading.Thread(target=finish, args=[job]) for job in claim_all()]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not errors
        assert row(b).state == "succeeded"
    assert sorted(note.job for note in notifications_of(demo)) == sorted(b.id for b in batches)


def test_nobody_settled(demo, nobody_settles, transactional_db):
    """Killed between the last job and the end of the batch: whoever keeps house ends it."""
    with batch(owner=demo) as b:
        tasks.noop.enqueue()
    with batch(owner=demo) as running:
        tasks.noop.enqueue()
    first, second = claim_all()
    end(first)
    assert row(b).state == "running"
    nobody_settles()
    finishing.finish_remaining_batches()
    assert row(b).state == "succeeded"
    assert row(running).state == "running"
    assert [note.job for note in notifications_of(demo)] == [b.id]
    end(second)
    assert row(running).state == "succeeded"


def test_a_worker_settles_what_was_left(demo, nobody_settles, transactional_db, start_worker):
    with batch(owner=demo) as b:
        tasks.noop.enqueue()
    end(*claim_all())
    nobody_settles()
    start_worker()
    assert join(b, timeout=20) == {**ALL, "succeeded": 1}


def test_a_worker_goes_on_cancelling(demo, transactional_db, start_worker):
    """Whoever cancelled was killed after the batch was marked: its jobs are held back, and cancelled by a worker."""
    with batch(owner=demo) as b:
        tasks.noop.using(run_after=timezone.now() + timedelta(days=1)).enqueue()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(manual, "_cancel_jobs_of", lambda batches, by: None)
        manual.cancel([b.id], by=demo.pk)
    start_worker()
    with pytest.raises(JobCancelled):
        join(b, timeout=20)


def test_an_error_while_settling_loses_no_outcome(demo, transactional_db, monkeypatch, caplog):
    with batch(owner=demo) as b:
        tasks.noop.enqueue()
    (job,) = claim_all()
    monkeypatch.setattr(batch_completion, "collect_outcomes", lambda batches: 1 / 0)
    assert finishing.finish_jobs([outcomes.succeeded(job, DEFAULT_POLICY, 1)]) == {(job.id, job.fence)}
    assert "Could not end batches, which a worker tries again." in caplog.text
    monkeypatch.undo()
    finishing.finish_remaining_batches()
    assert row(b).state == "succeeded"


def test_a_batch_has_no_worker_to_lose(demo, transactional_db):
    """It runs without one, and is not taken away from anybody."""
    with batch(owner=demo) as b:
        tasks.noop.enqueue()
    assert reaping.reap_jobs([uuid.uuid4()]) == 0
    assert row(b).state == "running"


def test_nested(demo, transactional_db):
    """A batch inside a batch is one of its jobs, with a result of its own, and tells nobody."""
    with batch(owner=demo, title="Outer") as outer:
        tasks.echo.enqueue(1)
        with batch(title="Inner") as inner:
            tasks.echo.enqueue(2)
            tasks.fail.enqueue()
        assert not Job.objects.exists()
    assert (row(outer).progress_total, row(inner).progress_total) == (2, 2)
    assert (row(inner).user_id, row(inner).batch) == (None, outer.id)
    run_jobs()
    assert (row(outer).state, row(inner).state) == ("failed", "failed")
    assert json.loads(row(inner).error)["detail"] == "1 of 2 failed."
    assert json.loads(row(outer).error)["detail"] == "1 of 2 failed."
    assert [note.title for note in notifications_of(demo)] == ["Outer"]
    assert inner.result.id == str(inner.id)


# Cancelled, and tried again


def test_to_cancel_a_batch_is_to_cancel_its_jobs(start_worker, gate, demo):
    """Queued ones at once, running ones when they let themselves be ended; then the batch is cancelled too."""
    start_worker(concurrency=2)
    with batch(owner=demo) as b:
        results = [tasks.hold.enqueue(number) for number in range(5)]
    wait_until(lambda: len(tasks.held) == 2, what="two to run")
    assert manual.cancel([b.id], by=demo.pk) == {b.id: "asked"}
    with pytest.raises(JobCancelled):
        join(b, timeout=20)
    assert {job.state for job in until_done(*results)} == {"cancelled"}
    assert sorted(tasks.seen) == ["cancelled 0", "cancelled 1"]
    assert notifications_of(demo) == []


def test_a_batch_of_queued_jobs_is_cancelled_at_once(demo, transactional_db):
    """Its owner is told if it was somebody else."""
    with batch(owner=demo, title="Mine") as b:
        for _ in range(3):
            tasks.noop.enqueue()
    manual.cancel([b.id], by=None)
    assert (row(b).state, row(b).progress_current) == ("cancelled", 3)
    assert [(note.title, note.level) for note in notifications_of(demo)] == [("Mine", "warning")]


def test_one_that_its_worker_gave_back_is_cancelled_too(demo, transactional_db):
    """It was asked to end, its worker stopped, and its queue is paused: nobody claims it."""
    with batch(owner=demo) as b:
        tasks.noop.enqueue()
    (job,) = claim_all()
    manual.cancel([b.id], by=demo.pk)
    queueing.release([job])
    assert Job.objects.get(id=job.id).state == "queued"
    manual.resume_batch_cancellations()
    assert (Job.objects.get(id=job.id).state, row(b).state) == ("cancelled", "cancelled")


def test_what_was_done_before_stays_done(demo, transactional_db):
    """All had succeeded when it was cancelled: a result that is stored first wins."""
    with batch(owner=demo) as b:
        tasks.noop.enqueue()
    (job,) = claim_all()
    manual.cancel([b.id], by=demo.pk)
    end(job)
    assert row(b).state == "succeeded"


def test_jobs_that_are_cancelled_alone(demo, transactional_db):
    """The batch was not: it has failed, and says how many were."""
    with batch(owner=demo) as b:
        first, _, _ = [task.enqueue() for task in (tasks.noop, tasks.fail, tasks.noop)]
    manual.cancel([uuid.UUID(first.id)])
    run_jobs()
    assert json.loads(row(b).error)["detail"] == "1 of 3 failed, 1 was cancelled."
    with batch(owner=demo) as b:
        last = tasks.noop.enqueue()
    manual.cancel([uuid.UUID(last.id)])
    assert json.loads(row(b).error)["detail"] == "1 of 1 was cancelled."


def test_cancelling_that_was_interrupted_goes_on(demo, transactional_db, monkeypatch):
    """Killed after the batch was marked and before its jobs were cancelled."""
    with batch(owner=demo) as b:
        with batch():
            tasks.noop.enqueue()
        tasks.noop.enqueue()
    monkeypatch.setattr(manual, "_cancel_jobs_of", lambda batches, by: None)
    manual.cancel([b.id], by=demo.pk)
    monkeypatch.undo()
    assert set(Job.objects.values_list("state", flat=True)) == {"running", "queued"}
    manual.resume_batch_cancellations()
    assert set(Job.objects.values_list("state", flat=True)) == {"cancelled"}
    assert notifications_of(demo) == []


def test_to_retry_a_batch_is_to_retry_what_failed(worker, demo, tmp_path):
    """Its jobs that succeeded stay as they are; the newer word replaces the older one."""
    with batch(owner=demo) as b:
        well, again = tasks.echo.enqueue(1), batch_tasks.fail_once.enqueue(str(tmp_path / "tries"))
    with pytest.raises(JobFailed):
        join(b, timeout=20)
    before = row(b)
    assert manual.retry([b.id]) == [b.id]
    assert join(b, timeout=20) == {**ALL, "succeeded": 2}
    job = row(b)
    assert (job.attempt, job.max_attempts, job.error) == (2, 2, None)
    assert (job.fence, job.version > before.version, job.seq > before.seq) == (1, True, True)
    assert Job.objects.get(id=well.id).attempt == 1
    assert Job.objects.get(id=again.id).attempt == 2
    first, second = notifications_of(demo)
    assert (first.level, first.archived_at is None) == ("error", False)
    assert (second.level, second.archived_at is None) == ("success", True)


def test_a_batch_of_batches_is_tried_again(demo, transactional_db):
    with batch(owner=demo) as outer:
        with batch() as inner:
            failing = tasks.fail.enqueue()
        tasks.noop.enqueue()
    run_jobs()
    assert row(outer).state == row(inner).state == "failed"
    Job.objects.filter(id=failing.id).update(task_path=tasks.noop.module_path, args="[]")
    assert manual.retry([outer.id]) == [outer.id]
    assert (row(outer).state, row(inner).state, row(outer).progress_current) == ("running", "running", 1)
    run_jobs()
    assert row(outer).state == row(inner).state == "succeeded"
    assert manual.retry([outer.id]) == []


def test_a_job_tried_again_alone_has_its_batches_run_again(demo, transactional_db):
    """Their owner is told anew: what they were told before holds no longer."""
    with batch(owner=demo, title="Outer") as outer:
        with batch(title="Inner") as inner:
            failing = tasks.fail.enqueue()
            tasks.noop.enqueue()
        tasks.noop.enqueue()
    run_jobs()
    assert (row(inner).state, row(outer).state) == ("failed", "failed")
    Job.objects.filter(id=failing.id).update(task_path="tests.jobs.tasks.noop")
    assert manual.retry([uuid.UUID(failing.id)]) == [uuid.UUID(failing.id)]
    assert (row(inner).state, row(outer).state) == ("running", "running")
    run_jobs()
    assert (row(inner).state, row(outer).state) == ("succeeded", "succeeded")
    assert [(note.level, bool(note.archived_at)) for note in notifications_of(demo)] == [
        ("error", True),
        ("success", False),
    ]


def test_a_batch_is_not_tried_again_by_half(demo, settings, transactional_db):
    """Where its owner may have no more active jobs, nothing of it is queued."""
    with batch(owner=demo) as b:
        tasks.fail.enqueue()
    run_jobs()
    settings.NOTIFICATIONS = {**settings.NOTIFICATIONS, "ACTIVE_JOBS_PER_USER": 1}
    tasks.noop.using(owner=demo).enqueue()
    with pytest.raises(TooManyJobs):
        manual.retry([b.id])
    assert (row(b).state, jobs_of(b).get().state) == ("failed", "failed")


def test_a_job_tried_again_while_its_batch_is_settled(demo, transactional_db, monkeypatch):
    """Between the look for active ones and the count: a batch that succeeded without it would be final."""
    with batch(owner=demo) as b:
        tasks.noop.enqueue(), tasks.noop.enqueue()
    first, last = claim_all()
    end(first, well=False)
    forget = batch_completion._forget

    def retried_first(id):
        forget(id)
        manual.retry([first.id])

    with monkeypatch.context() as patch:
        patch.setattr(batch_completion, "_forget", retried_first)
        end(last)
    assert row(b).state == "running"
    run_jobs()
    assert json.loads(row(b).result) == {**ALL, "succeeded": 2}


def test_no_worker_claims_a_batch(demo, transactional_db):
    with batch(owner=demo):
        pass
    with batch(owner=demo) as b:
        tasks.noop.enqueue()
    run_jobs()
    assert not Attempt.objects.exists()
    assert row(b).worker is None


def test_ten_thousand(start_worker, demo):
    """Of which one in five fails: the counts add up, and there is one notification."""
    start_worker()
    with batch(owner=demo, title="Many") as b:
        for number in range(10_000):
            tasks.one_in_five_fails.enqueue(number)
    with pytest.raises(JobFailed, match=r"^2000 of 10000 failed.$"):
        join(b, timeout=100)
    assert [note.title for note in notifications_of(demo)] == ["Many"]
    assert (row(b).progress_current, row(b).progress_total) == (10_000, 10_000)


class InATestCase(TestCase):
    def test_run_jobs_runs_batches_too(self):
        demo = get_user_model().objects.create_user("demo")
        with batch(owner=demo):
            tasks.noop.enqueue()
        with batch(owner=demo):
            pass
        self.assertEqual(run_jobs(), 1)
        self.assertEqual(Notification.objects.filter(seq__isnull=False).count(), 2)


def test_the_state_of_a_running_batch(worker, gate, demo):
    with batch(owner=demo) as b:
        held = tasks.hold.enqueue("x")
    until_state(held, "running")
    b.result.refresh()
    assert (b.result.status, b.result.attempts) == ("RUNNING", 0)
    gate.set()
    assert join(b, timeout=20)["succeeded"] == 1
