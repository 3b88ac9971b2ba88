"""Tasks and notify functions for the tests of batches; worker processes import them from here too."""

from notifications.api import abatch, ajoin, task
from tests.jobs import tasks


def words(done):
    return {"title": f"{done.title}: {done.state}", "body": str(done.result or done.error["detail"])}


def silence(done):
    return None


def leave(done):
    raise SystemExit


@task
async def batch_in_a_job(count):
    """A job that makes a batch and waits for it."""
    async with abatch(title="Inner") as b:
        for number in range(count):
            await tasks.echo.aenqueue(number)
    return await ajoin(b, timeout=60)


@task
async def nested_batch_in_a_job():
    async with abatch() as b, abatch():
        await tasks.noop.aenqueue()
    return await ajoin(b, timeout=60)


@task
async def fail_once(path):
    """Fails at first; succeeds when it is tried again."""
    with open(path, "a+") as file:  # noqa: ASYNC230
        file.write("x")
        if file.tell() == 1:
            raise ValueError("the first time")
    return "now"
