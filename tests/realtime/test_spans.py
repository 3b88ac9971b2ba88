"""One span for each pass of the hub that sends something, however many clients get it."""

import pytest

from notifications.api import notify
from tests.realtime.conftest import in_thread
from tests.tracing.test_spans import configure, exporter, provider  # noqa: F401 (fixtures)

pytestmark = pytest.mark.nightly_on_postgres


async def test_push(connect, user, exporter):  # noqa: F811
    """Three clients of one user are one span, of three frames. A pass that sends nothing is none."""
    sockets = [await connect(user) for _ in range(3)]
    for socket in sockets:
        await socket.start()
    exporter.clear()
    await in_thread(notify, user, "Export ready")
    for socket in sockets:
        await socket.receive("change")
        await socket.receive_beat_only()
    [push] = [span for span in exporter.get_finished_spans() if span.name == "push"]
    assert (push.kind.name, push.parent) == ("CLIENT", None)
    assert dict(push.attributes) == {
        "messaging.system": "notifications",
        "messaging.operation.name": "push",
        "messaging.operation.type": "send",
        "messaging.batch.message_count": 3,
        "messaging.notifications.users": 1,
    }
    assert push.start_time < push.end_time
