"""Tasks for the tests of jobs. Worker processes import them from here too."""

import asyncio
import sys
import threading
from collections import UserDict
from datetime import timedelta

from asgiref.sync import sync_to_async
from django.contrib.auth import get_user_model
from django.utils import translation

from notifications.api import (
    abatch,
    ajoin,
    anotify,
    apause,
    join,
    notify,
    pause,
    policy,
    progress,
    task,
    track,
)
from notifications.tracing import trace_context
from notifications.worker import current_execution

#: Tasks that hold wait for this event, which a test in the same process sets. `held` has an entry for each.
gate = threading.Event()
held = []
#: What tasks record for a test in the same process.
seen = []


@task
async def noop(*args, **kwargs):
    return None


@task
def noop_sync(*args, **kwargs):
    return None


@task
def add(a, b):
    return a + b


@task
async def echo(value):
    return value


@task
async def fail(message="It is broken"):
    raise ValueError(message)


@task
def fail_sync(message="It is broken"):
    raise ValueError(message)


class ForYou(Exception):
    tell_owner = True


class NotSerializable(Exception):
    def __init__(self):
        super().__init__(lambda: None, object())


@task
def fail_with_what_is_no_json():
    raise NotSerializable


@task(priority=5, queue_name="reports")
def of_reports():
    return "reports"


@task(takes_context=True)
@policy(retry_on=(Exception,))
def attempts_so_far(context, value=None):
    """Record the context of three attempts."""
    seen.append((context.attempt, context.task_result.attempts, context.task_result.status, value))
    if context.attempt < 3:
        raise Busy


class Busy(Exception):
    """An exception with a retry_after."""

    def __init__(self, retry_after=None):
        super().__init__("busy")
        self.retry_after = retry_after


class VeryBusy(Busy):
    pass


@task(takes_context=True)
@policy(retry_on=(Busy,), max_attempts=4)
async def busy(context, times, retry_after=None):
    """Succeed after this many failed attempts."""
    if context.attempt <= times:
        raise VeryBusy(retry_after)
    return context.attempt


@task(takes_context=True)
@policy(retry_on=Busy, max_attempts=2)
def busy_sync(context, times):
    progress(1, 2, "half")
    if context.attempt <= times:
        raise Busy
    return context.attempt


@task(takes_context=True)
@policy(retry_on=(TimeoutError,), timeout=0.5, max_attempts=2)
async def slow_at_first(context):
    if context.attempt == 1:
        await asyncio.sleep(30)
    return "in time"


@task
async def fail_for_owner(message):
    raise ForYou(message)


@task(takes_context=True)
def context_sync(context):
    result = context.task_result
    context.progress(1, 2, "half")
    return {
        "id": result.id,
        "attempt": context.attempt,
        "status": result.status,
        "workers": result.worker_ids,
    }


@task(takes_context=True)
async def context_async(context, value):
    return [context.task_result.id, context.attempt, value]


@task
async def hold(name="", timeout=30):
    """Wait for the gate. A cancellation is recorded."""
    held.append(name)
    try:
        async with asyncio.timeout(timeout):
            while not gate.is_set():  # noqa: ASYNC110 (the gate is opened by another thread)
                await asyncio.sleep(0.005)
    except asyncio.CancelledError:
        seen.append(f"cancelled {name}")
        raise
    return name


@task
def hold_sync(name=""):
    held.append(name)
    assert gate.wait(30)
    return name


@task
async def report_and_hold():
    progress(1, 2, "half")
    await hold.func()
    progress(2, 2, "all")


@task
@policy(max_attempts=1)
async def hold_once(name=""):
    return await hold.func(name)


@task(takes_context=True)
def hold_until_cancelled(context):
    """Check for a cancellation before each small step."""
    held.append("sync")
    while not gate.is_set():
        context.raise_if_cancelled()
        threading.Event().wait(0.005)
    return "not cancelled"


@task
@policy(retry_on=(Busy,))
async def fail_when_cancelled(error):
    held.append("fail")
    try:
        await asyncio.sleep(30)
    except asyncio.CancelledError:
        raise Busy if error == "busy" else ValueError  # noqa: B904


@task
@policy(concurrency_key="report:{owner}")
async def one_an_owner(name=""):
    await hold.func(name)


@task
@policy(concurrency_key="site:{site}", concurrency=2)
async def two_a_site(site):
    """Record how many jobs of the site ran when this one began."""
    running_by_site[site] = running_by_site.get(site, 0) + 1
    seen.append((site, running_by_site[site]))
    await asyncio.sleep(0.01)
    running_by_site[site] -= 1


running_by_site = {}


@task
@policy(timeout=0.2)
async def slow():
    await asyncio.sleep(30)


@task
@policy(timeout=0.3)
def slow_sync(name=""):
    held.append(name)
    gate.wait(30)
    progress(99)
    seen.append(f"late {name}")


@task
@policy(timeout=30)
def short_sync(seconds):
    threading.Event().wait(seconds)
    return "in time"


@task
@policy(title="Report {report_id}", notify=False)
async def silent(report_id):
    return report_id


class BrokenDict(dict):
    def items(self):
        raise KeyboardInterrupt

    __iter__ = keys = items


def words(done):
    if done.result == "nothing":
        return None
    if done.result == "raise":
        raise RuntimeError("no text")
    if done.result == "exit":
        sys.exit(1)
    if done.result == "cancel":
        raise asyncio.CancelledError
    if done.result == "last resort":
        raise BaseException("the last resort")
    if done.result == "broken dict":
        return BrokenDict(title="x")
    if done.result == "wrong name":
        return {"subject": "x"}
    if done.result == "too long":
        return {"title": "x" * 201}
    return {
        "title": f"{done.state}: {done.title}",
        "body": str(done.result),
        "level": "warning",
        "data": {"n": 1},
    }


@task
@policy(title="Told {value}", notify=words)
async def told(value):
    return value


@task
@policy(notify=lambda done: {"title": f"{done.title} is ready"})
async def ready(value):
    return value


@task
@policy(title="Answer: {prompt}", concurrency_key="answer:{prompt}")
async def answer(prompt):
    pass


@task
@policy(title="{prompt}")
async def answer_blank(prompt):
    pass


@task
async def language():
    return translation.get_language()


@task
async def ask_child(sync=False):
    """Enqueue a job, which has the same owner."""
    return (await noop.aenqueue()).id


@task
def ask_child_sync():
    return noop.enqueue().id


@task
async def thread_name():
    return await sync_to_async(lambda: threading.current_thread().name)()


@task
def thread_name_sync():
    return threading.current_thread().name


@task
async def count(total):
    for _ in track(range(total), message="counting"):
        await asyncio.sleep(0)
    return total


@task
def notify_user(user):
    notify(user, "From a job")


@task
async def one_in_five_fails(number):
    await asyncio.sleep(0)
    if number % 5 == 0:
        raise ValueError(number)
    return number


@task
async def carry(then):
    """Record the trace of this job and of a job that it enqueues."""
    seen.append((then, trace_context.current_headers()))
    if then:
        await carry.aenqueue(then=False)


@task
async def current_span():
    from opentelemetry import trace

    context = trace.get_current_span().get_span_context()
    seen.append((context.trace_id, context.span_id))


@task
async def notify_and_enqueue(user):
    await anotify(user, "Hello")
    await noop.aenqueue()


@task
def notify_and_enqueue_sync(user):
    notify(user, "Hello")
    noop.enqueue()


@task
async def echo_after_query(*values):
    await get_user_model().objects.acount()
    return list(values)


@task
async def has_part(label):
    """Return whether an extension has a part in the worker."""
    return label in current_execution().parts


@task
@policy(max_attempts=1)
def nap():
    pause("nap", timedelta(days=1))


@task
@policy(max_attempts=1)
async def nap_and_rest():
    await apause("nap", timedelta(milliseconds=1))
    await apause("rest", timedelta(milliseconds=1))


@task
async def system_exit():
    sys.exit("enough")


@task
def system_exit_sync():
    sys.exit("enough")


class BadText(Exception):
    def __str__(self):
        raise RuntimeError("no text")


@task
async def fail_with_bad_text():
    raise BadText


@task
async def not_json(kind):
    return {
        "nan": float("nan"),
        "infinity": float("inf"),
        "nul": "a\0b",
        "nul in key": {"a\0b": 1},
        "surrogate": "\ud800",
        "set": {1},
        "object": object(),
        "large": "x" * (1024 * 1024),
        "huge number": 10**5000,
    }[kind]


@task
async def almost_json(kind):
    return {"bytes": b"text", "mapping": UserDict(a=(1, 2)), "sequence": range(2)}[kind]


@task
def count_users():
    return get_user_model().objects.count()


@task
async def count_users_often(times):
    for _ in range(times):
        await get_user_model().objects.acount()


@task
async def count_users_async():
    return await get_user_model().objects.acount()


#: One entry for each counted parent that runs now, and the number of these whenever one starts.
running_parents, running_counts = [], []


@task
async def parent(value):
    """Enqueue a child, wait for it and return its result."""
    return await ajoin(await echo.aenqueue(value), timeout=60)


@task
async def counted_parent(queue):
    """Record how many of these parents run, then wait for a child in `queue`."""
    running_parents.append(1)
    running_counts.append(len(running_parents))
    try:
        return await ajoin(await noop.using(queue_name=queue).aenqueue(), timeout=60)
    finally:
        running_parents.pop()


@task
def parent_sync(value):
    return join(echo.enqueue(value), timeout=60)


@task
def parent_sync_of_sync(value):
    return join(add.enqueue(value, 1), timeout=60)


@task
async def generations(left):
    return 1 + await ajoin(await generations.aenqueue(left - 1), timeout=60) if left else 0


def describe(done):
    """Return a notification whose title has the state of the job, and whose body has its result or error."""
    return {"title": f"{done.title}: {done.state}", "body": str(done.result or done.error["detail"])}


@task
async def batch_in_a_job(count):
    """Enqueue a batch of `count` jobs, wait for it and return its counts."""
    async with abatch(title="Inner") as b:
        for number in range(count):
            await echo.aenqueue(number)
    return await ajoin(b, timeout=60)
