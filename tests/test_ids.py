"""Identifiers ascend, so that the order of ids is the order in which rows were made."""

import threading
import time
import uuid

from notifications import ids
from notifications.ids import uuid7


def test_it_is_a_uuid_version_7():
    """RFC 9562: version, variant, and the milliseconds in front."""
    before = time.time_ns() // 1_000_000
    made = uuid7()
    after = time.time_ns() // 1_000_000
    assert (made.version, made.variant) == (7, uuid.RFC_4122)
    assert before <= made.int >> 80 <= after + 1


def test_they_ascend():
    """Many in one millisecond too, as numbers and as texts."""
    made = [uuid7() for _ in range(20_000)]
    assert made == sorted(set(made))
    assert [str(id) for id in made] == sorted(str(id) for id in made)


def test_they_ascend_when_the_clock_is_set_back(monkeypatch):
    """A process never makes one below the last."""
    last = uuid7()
    monkeypatch.setattr(ids.time, "time_ns", lambda: 1_000_000_000)
    assert last < uuid7() < uuid7()


def test_threads_never_share_one():
    """Each thread's ids ascend, and all are different."""
    made = [[] for _ in range(4)]

    def make(into):
        into.extend(uuid7() for _ in range(5_000))

    threads = [threading.Thread(target=make, args=(into,)) for into in made]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(some == sorted(some) for some in made)
    assert len({id for some in made for id in some}) == 20_000


def test_they_cannot_be_guessed():
    """62 bits are random."""
    made = [uuid7().int & (1 << 62) - 1 for _ in range(100)]
    assert len(set(made)) == 100
    assert max(made) - min(made) > 1 << 58
