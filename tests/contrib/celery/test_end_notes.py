"""The main process of a Celery worker keeps what its child processes note of the ends of their tasks."""

import json
import os
import subprocess
import sys
import threading

import pytest

from notifications.jobs import outcomes
from notifications.jobs.declaring.policies import DEFAULT_POLICY
from notifications.models import Job

pytest.importorskip("celery.states", reason="Celery is not installed (pip install celery).")

NOTES = 20_000


@pytest.fixture
def end_notes(monkeypatch):
    from notifications.contrib.celery import end_notes

    monkeypatch.setattr(end_notes, "_notes", {})
    return end_notes


@pytest.fixture
def ended_pid():
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def read(end_notes, *lines):
    """Read lines as the thread of the main process does."""
    pipe, end = os.pipe()

    def run():
        try:
            end_notes._read(pipe)
        finally:
            os.close(pipe)  # else the writer would wait for a reader that has failed

    thread = threading.Thread(target=run)
    thread.start()
    with open(end, "wb") as file:
        file.writelines(lines)
    thread.join(60)


def line(pid, id, value="1"):
    return json.dumps([pid, id, "SUCCESS", value]).encode() + b"\n"


@pytest.mark.parametrize("bad", [b"\xff\n", b"[1]\n", b'[[], "id", "SUCCESS", "1"]\n'])
def test_a_note_that_cannot_be_read_costs_no_other(end_notes, ended_pid, bad):
    read(end_notes, line(ended_pid, "first"), bad, line(ended_pid, "second"))
    assert set(dict(end_notes.read_of_ended_processes()[ended_pid])) == {"first", "second"}


def test_no_note_is_lost_while_others_are_read_and_forgotten(end_notes, ended_pid, monkeypatch):
    """The reconciler forgets what it has recorded while the reader's thread adds more."""
    monkeypatch.setattr(end_notes, "MAX_QUEUED_CALLS", NOTES)
    seen, is_over = set(), threading.Event()

    def record():
        while True:
            was_over = is_over.is_set()
            for pid, notes in end_notes.read_of_ended_processes().items():
                seen.update(dict(notes))
                end_notes.forget(pid, notes)
            if was_over:
                return

    interval = sys.getswitchinterval()
    thread = threading.Thread(target=record)
    try:
        sys.setswitchinterval(0.00001)
        thread.start()
        read(end_notes, *(line(ended_pid, str(number)) for number in range(NOTES)))
    finally:
        is_over.set()
        thread.join(60)
        sys.setswitchinterval(interval)
    assert len(seen) == NOTES


def test_only_the_newest_notes_of_a_process_are_kept(end_notes, ended_pid, monkeypatch):
    monkeypatch.setattr(end_notes, "MAX_QUEUED_CALLS", 2)
    read(end_notes, *(line(ended_pid, str(number)) for number in range(3)))
    assert list(dict(end_notes.read_of_ended_processes()[ended_pid])) == ["1", "2"]


class Unprintable(Exception):
    """An exception whose text cannot be had."""

    def __repr__(self):
        raise RuntimeError("no text")

    __str__ = __repr__


def test_exception_whose_text_raises(end_notes, monkeypatch):
    """Else the end of its task would not be recorded."""
    pipe = os.pipe()
    monkeypatch.setattr(end_notes, "_pipe", pipe)
    monkeypatch.setattr(end_notes, "_main_pid", os.getppid())
    outcome = outcomes.failed(Job(task_path="shop.pay"), DEFAULT_POLICY, Unprintable())
    try:
        assert end_notes.note("id", outcome)
        assert json.loads(os.read(pipe[0], 4096)) == [os.getpid(), "id", "FAILURE", "Unprintable"]
    finally:
        for end in pipe:
            os.close(end)
