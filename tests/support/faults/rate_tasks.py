"""Tasks that call an upstream, which counts the calls: once a start, or within the rate of its host."""

import os

from notifications import outbound
from notifications.api import policy, task
from notifications.contrib.rates import rate

UPSTREAM = os.environ.get("TEST_UPSTREAM", "")


@task
@policy(max_attempts=10, notify=False)
@rate("jobs:{key}")
async def start(key):
    await call(f"localhost:{UPSTREAM}", f"jobs-{key}")


@task
@policy(max_attempts=100, retry_on=outbound.TEMPORARY, backoff=0.1, notify=False)
async def call_host():
    await call(f"127.0.0.1:{UPSTREAM}", "calls")


async def call(host, path):
    await outbound.get(f"http://{host}/{path}", guard=False, retries=0)
