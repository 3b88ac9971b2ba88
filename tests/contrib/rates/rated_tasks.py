"""Tasks with a rate."""

import time

from notifications import outbound
from notifications.api import policy, task
from notifications.contrib.rates import api, rate

#: What has run, in order.
ran = []


@task
@rate("partner")
def fetch(name="x"):
    ran.append(name)


@task
@rate("partner:{account}")
async def fetch_of(account):
    ran.append(account)


@task(takes_context=True)
@rate("partner:{account}")
def fetch_with_context(context, account="none"):
    ran.append(account)


@task
@policy(max_attempts=2, retry_on=(ValueError,), backoff=0)
@rate("partner")
def fail():
    ran.append("fail")
    raise ValueError


@task
@policy(concurrency_key="one")
@rate("partner")
def one_at_a_time():
    ran.append("one")


@task
@policy(max_attempts=2, retry_on=outbound.TEMPORARY, backoff=0)
async def call(url):
    await outbound.get(url, deadline=60)
    ran.append("call")


@task
async def block():
    """Keep the event loop of the worker busy."""
    time.sleep(1.5)  # noqa: ASYNC251


@task
def plain():
    ran.append("plain")


@task
@rate("unknown")
def fetch_unknown():
    ran.append("unknown")


#: System checks of other tests in this process do not see that their rates are not declared.
DECLARED = {path: key for path, key in api._declared.items() if path.startswith(__name__)}
for path in DECLARED:
    del api._declared[path]
