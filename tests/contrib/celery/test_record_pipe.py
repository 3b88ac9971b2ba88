"""A pipe keeps the messages of its writers apart, whatever their lengths, and whoever is killed while writing."""

import os
import struct
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

pytest.importorskip("celery", reason='Celery is not installed (pip install "celery[redis]").')

LONG = 100_000


def read_all(pipe):
    """Return all messages until the end, and close the pipe for that."""
    messages = []
    while (read := pipe.read()) is not None:
        messages += read
    return messages


def test_messages_of_any_length_arrive_in_order(pipe):
    sent = [b"", b"a", b"b" * LONG, b"c" * 4096, b"d"]
    assert all(pipe.send(message, 1) for message in sent)
    pipe.close_writing()
    assert read_all(pipe) == sent


def test_long_messages_of_threads_are_not_mixed(pipe):
    messages = [bytes([number]) * LONG for number in range(20)]
    with ThreadPoolExecutor(4) as threads:
        sending = [threads.submit(pipe.send, message, 10) for message in messages]
        received = []
        while len(received) < len(messages):
            received += pipe.read()
        assert all(sent.result() for sent in sending)
    assert sorted(received) == messages


def test_message_of_a_process_that_is_killed_while_it_writes_costs_no_other(pipe):
    """Its first part has come. Then another process goes on, later also one that has got its pid again."""
    part = struct.Struct("=IH??")
    for data in (
        part.pack(1, 5, True, False) + b"first",
        part.pack(2, 5, True, True) + b"other",
        part.pack(1, 4, True, False) + b"new ",
        part.pack(1, 7, False, True) + b"message",
        part.pack(3, 4, False, True) + b"rest",
    ):
        os.write(pipe._write_end, data)
    pipe.close_writing()
    assert read_all(pipe) == [b"other", b"new message"]


def test_only_one_message_waits_for_room(pipe):
    """A task must not wait with each message while nothing is recorded."""
    message = b"x" * 4000
    started = time.monotonic()
    while pipe.send(message, 0.3):
        pass
    assert time.monotonic() - started >= 0.3
    assert not any(pipe.send(message, 30) for _ in range(20))
    assert time.monotonic() - started < 30
    pipe.read()
    assert pipe.send(b"room again", 0)
    assert pipe.read() == [b"room again"]
