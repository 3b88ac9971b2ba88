"""Wait for a condition instead of a fixed time."""

import os
import time

#: By how much waits are longer in CI, where other processes may take the machine for seconds.
FACTOR = 2 if os.environ.get("CI") == "true" else 1


def wait_until(condition, *, timeout=60.0, what=None, every=0.02):
    """Call `condition` `every` seconds until it returns a true value, and return that.

    Raises AssertionError after `timeout` seconds, in CI twice as many; its message contains `what`.
    """
    timeout *= FACTOR
    deadline = time.monotonic() + timeout
    while True:
        if value := condition():
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"Waited {timeout:g} s for {what or condition}.")
        time.sleep(every)
