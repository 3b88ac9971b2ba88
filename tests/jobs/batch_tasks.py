"""Tasks and notify functions for the tests of batches; worker processes import them from here too."""

from notifications.api import abatch, ajoin, task
from notifications.jobs import retry
from notifications.models import Job
from tests.jobs import tasks


def describe(done):
    """Return a notification whose title has the state of the job, and whose body has its result or error."""
    return {"title": f"{done.title}: {done.state}", "body": str(done.result or done.error["detail"])}


def omit(done):
    """Return None, so that no notification is created."""
    return


def raise_exit(done):
    """Raise SystemExit, which the worker must survive."""
    raise SystemExit


def retry_failed(done):
    """Retry what has failed, as somebody may do while a batch ends."""
    retry(Job.objects.filter(batch=done.id, state="failed").values_list("id", flat=True))
    return {}


@task
async def batch_in_a_job(count):
    """Enqueue a batch of `count` jobs, wait for it and return its counts."""
    async with abatch(title="Inner") as b:
        for number in range(count):
            await tasks.echo.aenqueue(number)
    return await ajoin(b, timeout=60)


@task
async def nested_batch_in_a_job():
    """Enqueue a batch whose only job is in a batch inside it, and wait for the outer one."""
    async with abatch() as b, abatch():
        await tasks.noop.aenqueue()
    return await ajoin(b, timeout=60)


@task
async def fail_once(path):
    """Fail at the first attempt and succeed at the second one. The file at `path` counts attempts."""
    with open(path, "a+") as file:  # noqa: ASYNC230
        file.write("x")
        if file.tell() == 1:
            raise ValueError("the first time")
    return "now"
