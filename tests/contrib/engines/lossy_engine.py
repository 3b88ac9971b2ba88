"""Celery as an engine that loses messages: the share of them that the variable TEST_LOST_MESSAGES says."""

import os
import random

from notifications.contrib import celery


def create_engine(alias, name):
    engine = celery.create_engine(alias, name)
    wake, lost = engine.wake, float(os.environ["TEST_LOST_MESSAGES"])

    def wake_some(queue, count, *, expires):
        wake(queue, sum(random.random() >= lost for _ in range(count)), expires=expires)

    engine.wake = wake_some
    return engine
