"""A site whose engine is given lost ids again, and kills stuck processes, sooner than in production.

TEST_DISPATCH_SECONDS: after how long an id that no process has claimed is dispatched again for the first time.
TEST_DEADLINE_MARGIN_SECONDS: the time between the timeout of a task and its deadline.
"""

import os

from django.apps import AppConfig


class ShortDispatchIntervals(AppConfig):
    name = "tests.support.short_dispatch_intervals"
    label = "short_dispatch_intervals"

    def ready(self):
        from notifications.contrib.celery import engine
        from notifications.contrib.engines import dispatching
        from notifications.jobs.transitions import claims

        if seconds := os.environ.get("TEST_DISPATCH_SECONDS"):
            dispatching.FIRST_INTERVAL_SECONDS = float(seconds)
        if seconds := os.environ.get("TEST_DEADLINE_MARGIN_SECONDS"):
            claims.DEADLINE_MARGIN_SECONDS = engine.DEADLINE_MARGIN_SECONDS = float(seconds)
