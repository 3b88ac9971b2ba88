"""The epoch: one for all processes, another one after a failover that lost commits."""

import re
import uuid

import pytest
from django.db import connection

from notifications import streams
from notifications.models import Epoch
from tests.data.conftest import scalar

pytestmark = pytest.mark.database_law


def test_it_is_made_once_and_stays(transactional_db):
    """The first who asks makes it; a lower-case uuid, with the timeline of the log on PostgreSQL."""
    first = streams.epoch()
    assert streams.epoch() == first
    told, timeline = first[:36], first[36:]
    assert uuid.UUID(told) == Epoch.objects.get().value
    if connection.vendor == "sqlite":
        assert timeline == ""
    else:
        assert re.fullmatch(r"-[0-9a-f]{8}", timeline)
        assert int(timeline[1:], 16) == scalar("SELECT timeline_id FROM pg_control_checkpoint()")


def test_two_who_make_it_at_once_get_the_same(elsewhere, on_postgresql):
    """The second waits for the first, and takes what that one made."""
    first, second = elsewhere(), elsewhere()
    first.begin()
    made = first.do(streams.epoch)
    other = second.start(streams.epoch)
    second.wait_until_blocked()
    first.commit()
    assert other.result(60) == made


def test_one_that_was_rolled_back_was_never_there(elsewhere, on_postgresql):
    """The second makes its own."""
    first, second = elsewhere(), elsewhere()
    first.begin()
    never = first.do(streams.epoch)
    other = second.start(streams.epoch)
    second.wait_until_blocked()
    first.roll_back()
    assert other.result(60) == streams.epoch() != never


def test_a_new_life_is_another_epoch(transactional_db):
    """Whoever restores a backup replaces the row."""
    before = streams.epoch()
    Epoch.objects.update(value=uuid.uuid4())
    assert streams.epoch() != before
