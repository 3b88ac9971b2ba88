"""The epoch: the same for all processes, and a new one after a failover that lost commits or a restored backup."""

import re
import uuid

import pytest
from django.db import connection

from notifications.inbox import read_numbered_position
from notifications.models import Epoch
from tests.data.conftest import scalar

pytestmark = pytest.mark.database_law


def read_epoch():
    return read_numbered_position(0).epoch


def test_epoch_is_created_once(transactional_db):
    """The first read creates the epoch: a lower-case UUID, with the timeline of the WAL on PostgreSQL."""
    first = read_epoch()
    assert read_epoch() == first
    value, timeline = first[:36], first[36:]
    assert uuid.UUID(value) == Epoch.objects.get().value
    if connection.vendor == "sqlite":
        assert timeline == ""
    else:
        assert re.fullmatch(r"-[0-9a-f]{8}", timeline)
        assert int(timeline[1:], 16) == scalar("SELECT timeline_id FROM pg_control_checkpoint()")


def test_concurrent_transactions_get_the_same_epoch(open_connection, on_postgresql):
    """Of two transactions that create the epoch, the second waits for the first and reads its epoch."""
    first, second = open_connection(), open_connection()
    first.begin()
    created = first.do(read_epoch)
    reading = second.start(read_epoch)
    second.wait_until_blocked()
    first.commit()
    assert reading.result(60) == created


def test_rolled_back_epoch_is_not_used(open_connection, on_postgresql):
    """If the transaction that creates the epoch is rolled back, the waiting one creates another."""
    first, second = open_connection(), open_connection()
    first.begin()
    rolled_back = first.do(read_epoch)
    reading = second.start(read_epoch)
    second.wait_until_blocked()
    first.roll_back()
    assert reading.result(60) == read_epoch() != rolled_back


def test_replaced_row_is_another_epoch(transactional_db):
    """A replaced row, as after a restored backup, is another epoch."""
    before = read_epoch()
    Epoch.objects.update(value=uuid.uuid4())
    assert read_epoch() != before
