"""Jobs that wait for jobs give up their slots and threads meanwhile, so that parents cannot starve their children."""

import asyncio
import threading
import uuid
from collections import Counter
from operator import attrgetter
from statistics import median

import pytest
from asgiref.sync import async_to_sync, sync_to_async
from django.db import transaction

from notifications.api import abatch, ajoin, join, policy, task
from notifications.exceptions import JobCancelled, JobFailed
from notifications.jobs import cancel
from notifications.models import Job
from notifications.streams import ring
from tests.jobs import tasks
from tests.jobs.conftest import until_done
from tests.support.waiting import wait_until

pytestmark = pytest.mark.nightly_on_postgres


@task
async def nested_batch_in_a_job():
    """Enqueue a batch whose only job is in a batch inside it, and wait for the outer one."""
    async with abatch() as b, abatch():
        await tasks.noop.aenqueue()
    return await ajoin(b, timeout=60)


#: Where parents wait until each has a thread. Tests set the number of parents.
start_barrier = threading.Barrier(1)


@task(takes_context=True)
def parent_until_cancelled(context):
    """Wait until cancelled: join() raises JobCancelled, and the context reports the cancellation."""
    try:
        join(tasks.hold.enqueue("child"))
    except JobCancelled:
        tasks.seen.append("parent")
        context.raise_if_cancelled()


@task
def parent_after_barrier(value):
    """Wait until all parents have a thread, then enqueue a child and wait for it."""
    start_barrier.wait(30)
    return join(tasks.add.enqueue(value, 1), timeout=60)


@task
def parent_async_to_sync(value):
    return async_to_sync(ajoin)(tasks.add.enqueue(value, 1), timeout=60)


@task
async def parent_of_many(count):
    children = [await tasks.echo.aenqueue(number) for number in range(count)]
    return sum(await asyncio.gather(*(ajoin(child, timeout=60) for child in children)))


#: How many children ran whenever one began.
running_children: list[int] = []
active_children = Counter[str]()


@task(queue_name="limited")
async def child_in_limited_queue(value):
    active_children["now"] += 1
    running_children.append(active_children["now"])
    await asyncio.sleep(0.02)
    active_children["now"] -= 1
    return value


@task(queue_name="limited")
async def parent_in_limited_queue(value):
    children = [await child_in_limited_queue.aenqueue(value) for _ in range(3)]
    return sum(await asyncio.gather(*(ajoin(child, timeout=60) for child in children)))


@task
async def parent_on_database_thread():
    child = await tasks.noop.aenqueue()
    return await sync_to_async(join)(child, timeout=60)


@task(takes_context=True)
async def join_itself(context):
    await ajoin(context.task_result, timeout=60)


@task
@policy(timeout=0.3)
def parent_out_of_time():
    """Time out during join(), and record what join() then raises on the thread."""
    tasks.held.append("parent")
    try:
        join(tasks.hold.enqueue("child"))
    except BaseException as exc:
        tasks.seen.append(type(exc).__name__)
        raise


@task
@policy(timeout=0.2)
def parent_too_late():
    """Call join() after the timeout, for a job in a queue that no worker serves."""
    tasks.gate.wait(30)
    try:
        join(tasks.noop.using(queue_name="nowhere").enqueue())
    except BaseException as exc:
        tasks.seen.append(type(exc).__name__)
        raise


@task
async def await_failing():
    return await ajoin(await tasks.fail.aenqueue(), timeout=60)


LONG_INTERVAL_SECONDS = 1_000.0


def test_one_hundred_parents_and_their_children_on_one_hundred_slots(start_worker, user):
    """A waiting job gives up its slot. Its child has the same owner."""
    start_worker(concurrency=100)
    with transaction.atomic():
        parents = [tasks.parent.using(owner=user).enqueue(number) for number in range(100)]
    assert [join(parent, timeout=60) for parent in parents] == list(range(100))
    assert Job.objects.filter(user=user, state="succeeded").count() == 200


@pytest.mark.parametrize(
    "task",
    [
        tasks.parent_sync,
        tasks.parent_sync_of_sync,
        parent_after_barrier,
        parent_async_to_sync,
    ],
    ids=attrgetter("name"),
)
def test_sync_parents_give_up_their_threads(start_worker, monkeypatch, task):
    """All slots and threads are taken by parents, whose children need slots and threads too."""
    monkeypatch.setattr(f"{__name__}.start_barrier", threading.Barrier(4))
    worker = start_worker(concurrency=4)
    with transaction.atomic():
        parents = [task.enqueue(number) for number in range(8)]
    increment = 0 if task is tasks.parent_sync else 1
    assert [join(parent, timeout=60) for parent in parents] == [number + increment for number in range(8)]
    # The surplus threads end. Later calls find at most as many threads as there are slots.
    names = {join(tasks.thread_name_sync.enqueue(), timeout=20) for _ in range(20)}
    assert len(names) <= 4
    wait_until(
        lambda: (
            len(worker.worker._job_runner.sync_threads._threads) <= 4
            and not worker.worker._job_runner.sync_threads._released
        ),
        what="surplus threads to end",
    )


@pytest.mark.parametrize("workers", [1, 2])
def test_parents_and_children_in_one_queue_with_a_limit(start_worker, settings, workers):
    """A parent that waits does not count, and no more children run than the limit of the queue says."""
    settings.TASKS = {"default": {**settings.TASKS["default"], "OPTIONS": {"limits": {"limited": 2}}}}
    running_children.clear()
    with transaction.atomic():
        parents = [parent_in_limited_queue.enqueue(number) for number in range(6)]
    for _ in range(workers):
        start_worker(concurrency=10)
    assert [join(parent, timeout=60) for parent in parents] == [3 * number for number in range(6)]
    assert max(running_children) <= 2


def test_generations_on_one_slot(start_worker):
    start_worker(concurrency=1)
    assert join(tasks.generations.enqueue(5), timeout=60) == 5


def test_one_parent_of_many(start_worker):
    start_worker(concurrency=2)
    assert join(parent_of_many.enqueue(50), timeout=60) == sum(range(50))


def test_children_run_before_parents_that_have_not_started(start_worker):
    """By age alone all parents would start first, and each would keep its memory, a sync one also a thread."""
    tasks.running_counts.clear()
    with transaction.atomic():
        parents = [tasks.counted_parent.enqueue("default") for _ in range(20)]
    start_worker(concurrency=2)
    until_done(*parents, timeout=60)
    # The median: on a busy machine a parent may learn late that its child is done, and another parent starts meanwhile.
    assert median(tasks.running_counts) <= 4


@pytest.fixture
def set_interval(monkeypatch):
    """set_interval(seconds) sets the time between two claims of a worker with as many parents as may wait."""
    name = "notifications.worker.claim_loop.OVER_LIMIT_CLAIM_INTERVAL_SECONDS"
    return lambda seconds: monkeypatch.setattr(name, seconds)


def test_a_limit_of_parents_that_wait_for_other_workers(start_worker, set_interval, monkeypatch):
    """While no worker serves the queue of the children, only a few parents per slot start."""
    set_interval(LONG_INTERVAL_SECONDS)
    tasks.running_counts.clear()
    with transaction.atomic():
        parents = [tasks.counted_parent.enqueue("elsewhere") for _ in range(15)]
    claim_loop, limits = start_worker(concurrency=2, queues=["default"]).worker._claim_loop, []
    limit_of = claim_loop._limit_of_other_jobs
    monkeypatch.setattr(
        claim_loop, "_limit_of_other_jobs", lambda limit: limits.append(limit) or limit_of(limit)
    )
    wait_until(lambda: Job.objects.filter(queue_name="elsewhere").count() >= 8, what="parents to wait")
    limits.clear()

    def ring_for_claims():
        ring([], queue=True)
        return len(limits) >= 5

    wait_until(ring_for_claims, what="more claims")
    start_worker(queues=["elsewhere"])
    until_done(*parents, timeout=60)
    assert 8 <= max(tasks.running_counts) <= 10


def test_workers_of_two_queues_do_not_deadlock(start_worker, set_interval, monkeypatch):
    """Each runs its maximum of parents, and all of these wait for jobs that only the other worker runs."""
    monkeypatch.setattr("notifications.worker.capacity.MAX_WAITING_PER_SLOT", 2)
    set_interval(0.05)
    with transaction.atomic():
        parents = [
            tasks.counted_parent.using(queue_name=mine).enqueue(other)
            for _ in range(3)
            for mine, other in (("one", "two"), ("two", "one"))
        ]
    for queue in ("one", "two"):
        start_worker(concurrency=1, queues=[queue])
    until_done(*parents, timeout=60)


def test_jobs_of_nested_batches_run_before_parents(start_worker, set_interval):
    """The maximum of parents runs, and each waits for a batch whose job is in a batch inside it."""
    set_interval(LONG_INTERVAL_SECONDS)
    with transaction.atomic():
        parents = [nested_batch_in_a_job.enqueue() for _ in range(6)]
    start_worker(concurrency=1)
    assert [join(parent, timeout=60)["succeeded"] for parent in parents] == [1] * 6


def test_cancelling_a_sync_parent_ends_its_wait(worker, gate):
    """join() is a point where a sync task can be cancelled. The child continues."""
    parent = parent_until_cancelled.enqueue()
    wait_until(lambda: tasks.held == ["child"], what="the child to run")
    cancel([uuid.UUID(parent.id)])
    with pytest.raises(JobCancelled):
        join(parent, timeout=20)
    assert tasks.seen == ["parent"]
    assert not gate.is_set()


def test_only_waiting_jobs_give_up_their_slots(start_worker, gate):
    """Of five jobs that do not call join(), two run on two slots."""
    start_worker(concurrency=2)
    holding = [tasks.hold.enqueue(number) for number in range(5)]
    parent = tasks.parent.enqueue("x")
    wait_until(lambda: len(tasks.held) == 2, what="two to run")
    # Beside them may run the parent, another share, which has given up its slot.
    assert Job.objects.filter(state="running", task_path__endswith=".hold").count() == 2
    gate.set()
    assert join(parent, timeout=20) == "x"
    until_done(*holding)


def test_join_is_refused_on_the_shared_database_thread(worker):
    result = parent_on_database_thread.enqueue()
    with pytest.raises(JobFailed):
        join(result, timeout=20)
    result.refresh()
    assert "that this async task shares with others. Use await ajoin()" in result.errors[0].traceback


def test_a_job_cannot_wait_for_itself(worker):
    result = join_itself.enqueue()
    with pytest.raises(JobFailed):
        join(result, timeout=20)
    result.refresh()
    assert "A job cannot wait for its own end." in result.errors[0].traceback


def test_the_failure_of_a_child_fails_the_parent(worker):
    """join() raises JobFailed in the parent, which does not catch it here."""
    result = await_failing.enqueue()
    with pytest.raises(JobFailed):
        join(result, timeout=20)
    result.refresh()
    assert result.errors[0].exception_class_path == "notifications.exceptions.JobFailed"


def test_a_timeout_of_a_sync_parent_ends_its_wait(worker, gate):
    """The thread becomes free for other jobs, although the child still runs."""
    result = parent_out_of_time.enqueue()
    with pytest.raises(JobFailed):
        join(result, timeout=20)
    wait_until(lambda: tasks.seen, what="the wait to end")
    assert tasks.seen == ["JobCancelled"]
    assert not gate.is_set()
    wait_until(lambda: not worker.worker._job_runner.sync_threads._detached, what="no thread to be detached")


def test_a_sync_parent_that_begins_to_wait_after_its_timeout(start_worker, gate):
    """join() then raises immediately."""
    start_worker(queues=["default"])
    with pytest.raises(JobFailed):
        join(parent_too_late.enqueue(), timeout=20)
    gate.set()
    wait_until(lambda: tasks.seen == ["JobCancelled"], what="the wait to end")
