"""The memory of closed connections is given back after a wave of closes."""

import gc
import weakref

from notifications.realtime.freed_memory import MIN_CLOSED, FreedMemory, give_back


def test_it_is_due_once_after_a_wave():
    """Not for a few closes, nor while connections still close."""
    freed = FreedMemory()
    for count, is_due in ((MIN_CLOSED - 1, False), (0, False), (1, False), (1, False), (0, True), (0, False)):
        for _ in range(count):
            freed.count_closed()
        assert freed.is_due() == is_due


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
