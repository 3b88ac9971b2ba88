"""Ids ascend, so that their order is the order in which rows were created."""

import os
import threading
import time
import uuid

import pytest

from notifications import ids
from notifications.ids import uuid7


def test_version_variant_and_milliseconds():
    """As RFC 9562 defines version 7."""
    before = time.time_ns() // 1_000_000
    made = uuid7()
    after = time.time_ns() // 1_000_000
    assert (made.version, made.variant) == (7, uuid.RFC_4122)
    assert before <= made.int >> 80 <= after + 1


def test_ids_ascend():
    """Also within a millisecond, as numbers and as strings."""
    made = [uuid7() for _ in range(20_000)]
    assert made == sorted(set(made))
    assert [str(id) for id in made] == sorted(str(id) for id in made)


def test_ids_ascend_when_the_clock_is_set_back(monkeypatch):
    last = uuid7()
    monkeypatch.setattr(time, "time_ns", lambda: 1_000_000_000)
    assert last < uuid7() < uuid7()


def test_ids_of_several_threads():
    """Those of each thread ascend, and all are different."""
    made = [[] for _ in range(4)]

    def make(into):
        into.extend(uuid7() for _ in range(5_000))

    threads = [threading.Thread(target=make, args=(into,)) for into in made]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(ids == sorted(ids) for ids in made)
    assert len({id for ids in made for id in ids}) == 20_000


def test_ids_cannot_be_guessed():
    """62 bits are random."""
    made = [uuid7().int & (1 << 62) - 1 for _ in range(100)]
    assert len(set(made)) == 100
    assert max(made) - min(made) > 1 << 58


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_process_has_its_own_number_and_ids():
    read, write = os.pipe()
    if not (child := os.fork()):
        os.write(write, f"{ids.process_number()} {uuid7().int & (1 << 60) - 1}".encode())
        os._exit(0)
    os.close(write)
    with open(read) as file:
        number, tail = map(int, file.read().split())
    os.waitpid(child, 0)
    assert number != ids.process_number() and tail != uuid7().int & (1 << 60) - 1
