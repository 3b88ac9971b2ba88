"""The jobs that a worker claims first."""

import pytest

from notifications.jobs.claiming.candidates import first_jobs
from notifications.models import Job, uuid7

pytestmark = pytest.mark.any_database


def test_priority_then_turn_then_age():
    """Of what several queues and executors have."""
    old, new = Job(id=uuid7(), turn=2), Job(id=uuid7(), turn=2)
    first, urgent = Job(id=uuid7(), turn=1), Job(id=uuid7(), turn=9, priority=5)
    assert first_jobs([new, old, first, urgent], 3) == [urgent, first, old]
