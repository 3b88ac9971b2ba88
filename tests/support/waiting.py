"""Wait for a condition instead of a fixed time."""

import time


def wait_until(condition, *, timeout=60.0, what=None, every=0.02):
    """Call `condition` `every` seconds until it returns a true value, and return that.

    Raises AssertionError after `timeout` seconds; its message contains `what`.
    """
    deadline = time.monotonic() + timeout
    while True:
        if value := condition():
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"Waited {timeout:g} s for {what or condition}.")
        time.sleep(every)
