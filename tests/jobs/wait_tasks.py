"""Tasks that wait. ``calls`` has what they have called, in this process."""

from datetime import timedelta

from notifications.api import apause, pause, policy, task
from notifications.contrib.steps import astep, step
from notifications.contrib.webhooks import acallback
from tests.jobs import tasks

calls = []
DAY = timedelta(days=1)


def call(name):
    calls.append(name)
    return name


@task
@policy(max_attempts=1)
def pause_sync(duration_ms=86_400_000):
    step("first", call, "first")
    pause("nap", timedelta(milliseconds=duration_ms))
    return step("second", call, "second")


@task
@policy(max_attempts=2, retry_on=(OSError,), timeout=2)
async def fail_after_pause():
    await apause("nap", DAY)
    calls.append("go on")
    if len(calls) < 2:
        raise OSError
    return len(calls)


@task
@policy(max_attempts=1)
async def wrong(kind):
    match kind:
        case "name twice":
            await astep("nap", call, "nap")
            await apause("nap", DAY)
        case "duration":
            await apause("nap", timedelta())
        case "type":
            await apause("nap", 5)


@task
async def noop():
    return await tasks.noop.func()


@task
@policy(max_attempts=1)
async def ask_bank(secret=None, expires_s=None):
    reply = await acallback("bank", secret, expires_s and timedelta(seconds=expires_s))
    await astep("ask", call, reply.url)
    return await reply.aresult()
