"""Tasks that write output. ``go_on`` is what a task waits for, ``entered`` that it has come there."""

import threading

from notifications.api import policy, task
from notifications.contrib.output import output
from notifications.contrib.steps import step

go_on, entered = threading.Event(), threading.Event()
#: Whether an iterator was closed.
closed = threading.Event()


class Down(Exception):
    pass


@task
async def write(*texts):
    for text in texts:
        output(text)


@task
@policy(max_attempts=3, retry_on=(Down,))
def fail_twice(text="text"):
    from notifications.worker import current_execution

    attempt = current_execution().job.attempt
    output(f"{text} {attempt}")
    if attempt < 3:
        raise Down


@task
def forge():
    step("name\nFORGED", str, "result\nFORGED")
    raise ValueError("Größe\nFORGED\r\nFORGED\u2028FORGED")
