"""A doorbell that nothing else listens to."""

import pytest

from notifications.realtime.doorbell import doorbell


@pytest.fixture(autouse=True)
def nobody_else_listens():
    """Overviews and reads of jobs' ends of earlier tests listen for a while, with a listener that has begun before."""
    with doorbell._lock:
        callbacks, doorbell._callbacks = doorbell._callbacks, []
        listener, doorbell._listener = doorbell._listener, None
    if listener:
        listener.stop()
    yield
    with doorbell._lock:
        doorbell._callbacks += callbacks
        if callbacks:
            doorbell._restart_at = 0.0  # with the next ring
