"""Wait for a condition instead of a fixed time, or set the clock forward."""

import asyncio
import os
import time

#: By how much waits are longer in CI, where other processes may take the machine for seconds.
FACTOR = 2 if os.environ.get("CI") == "true" else 1


def wait_until(condition, *, timeout=60.0, what=None, every=None):
    """Call `condition` until it returns a true value, and return that.

    It is called `every` seconds, by default after 0.02 to 0.1 seconds, a tenth of what it has taken so far: each query
    or request takes time from the process that is waited for.

    Raises AssertionError after `timeout` seconds, in CI twice as many; its message contains `what`.
    """
    timeout *= FACTOR
    begun = time.monotonic()
    while True:
        if value := condition():
            return value
        waited = time.monotonic() - begun
        if waited > timeout:
            raise AssertionError(f"Waited {timeout:g} s for {what or condition}.")
        time.sleep(every or min(max(0.02, waited / 10), 0.1))


async def skip_time(seconds):
    """Set the clock of the event loop forward, past timeouts for which a test cannot wait."""
    loop = asyncio.get_running_loop()
    now = loop.time
    loop.time = lambda: now() + seconds
