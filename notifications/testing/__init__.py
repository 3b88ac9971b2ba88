"""Help for tests of projects that use the app.

It may be imported before the models are there. With pytest the same comes as fixtures: ``notifications.pytest_plugin``.
"""

from notifications.testing.capturing import capture_notifications
from notifications.testing.connecting import Client, connect
from notifications.testing.moving import Clock, clock
from notifications.testing.running import run_jobs, run_until_idle

__all__ = ["Client", "Clock", "capture_notifications", "clock", "connect", "run_jobs", "run_until_idle"]
