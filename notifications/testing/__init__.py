"""Help for tests of projects that use the app.

It may be imported before the models are there. With pytest the same comes as fixtures: ``notifications.pytest_plugin``.
"""

from notifications.testing.capture import capture_notifications
from notifications.testing.client import Client, connect
from notifications.testing.inline import run_jobs, run_until_idle
from notifications.testing.job_clock import Clock, clock

__all__ = ["Client", "Clock", "capture_notifications", "clock", "connect", "run_jobs", "run_until_idle"]
