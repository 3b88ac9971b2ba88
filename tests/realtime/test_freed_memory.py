"""The memory of closed connections is given back after a wave of closes."""

import gc
import weakref

import pytest

from notifications.realtime.freed_memory import MIN_CLOSED, FreedMemory, give_back

pytestmark = pytest.mark.nightly_on_postgres


def find_due(counts):
    """Return in which seconds memory is given back, with these numbers of connections."""
    freed = FreedMemory()
    return [second for second, count in enumerate(counts) if freed.is_due(count)]


def test_it_is_due_once_after_a_wave():
    """Not for a few closes, nor while connections still close."""
    assert find_due([5000, 5000 - MIN_CLOSED + 1, 4501, 4501]) == []
    assert find_due([5000, 4000, 2000, 1000, 980, 970, 970]) == [4]
    assert find_due([5000, 1000, 1000, 500, 499, 499]) == [2, 4]


def test_it_is_not_due_for_connections_that_are_replaced():
    """As after a restart of a proxy, or with users who go from page to page."""
    assert find_due([5000, 0, 1200, 2600, 4100, 4900, 5000, 5000]) == []
    assert find_due([5000, 5000, 0, 5000, 5000]) == []


def test_garbage_is_collected():
    class Node:
        pass

    gc.disable()
    try:
        node = Node()
        node.itself = node
        reference = weakref.ref(node)
        del node
        give_back()
        assert reference() is None
    finally:
        gc.enable()
