"""Wait for a condition, never for a time."""

import time


def wait_until(condition, *, timeout=60.0, what=None, every=0.02):
    """Call `condition` until it returns something true, and return that.

    After `timeout` seconds: AssertionError that says `what` was awaited.
    """
    deadline = time.monotonic() + timeout
    while True:
        if value := condition():
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"Waited {timeout:g} s in vain for {what or condition}.")
        time.sleep(every)
