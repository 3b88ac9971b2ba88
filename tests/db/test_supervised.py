"""A supervised thread: its start, errors, idleness, stop and fork."""

import os
import threading
import time
from contextlib import contextmanager

import pytest

from notifications.db import supervised
from notifications.db.supervised import SupervisedThread
from notifications.worker import NoThread
from tests.support.waiting import wait_until

pytestmark = pytest.mark.nightly_on_old_django


class Work:
    """Counts its calls, and when a session begins and ends."""

    def __init__(self, **options):
        self.calls, self.threads, self.events = 0, set(), []
        self.result = None
        self.run = lambda: None
        self.thread = SupervisedThread("supervised", self, session=self.session, is_limited=False, **options)

    def __call__(self):
        self.calls += 1
        self.threads.add(threading.get_ident())
        self.run()
        return self.result

    @contextmanager
    def session(self):
        self.events.append("begin")
        try:
            yield
        finally:
            self.events.append("end")

    def wait_for(self, calls):
        wait_until(lambda: self.calls >= calls, what="the work")


@pytest.fixture
def make():
    """make(**options) returns work, whose thread is stopped after the test."""
    made = []

    def make(**options):
        made.append(Work(**options))
        return made[-1]

    yield make
    for work in made:
        work.thread.stop(10)


def test_one_thread_works_after_each_wake(make):
    work = make()
    assert not work.thread.is_running
    for calls in range(1, 4):
        work.thread.wake()
        work.wait_for(calls)
    time.sleep(0.05)
    assert (work.calls, len(work.threads), work.events) == (3, 1, ["begin"])


def test_wakes_during_a_call_are_one_further_call(make):
    work, gate, busy = make(), threading.Event(), threading.Event()
    work.run = lambda: (busy.set(), gate.wait(10))
    work.thread.wake()
    assert busy.wait(10)
    for _ in range(5):
        work.thread.wake()
    gate.set()
    work.wait_for(2)
    time.sleep(0.05)
    assert work.calls == 2


def test_seconds_until_the_next_call(make):
    """A wake comes first."""
    work = make()
    work.result = 0.01
    work.thread.wake()
    work.wait_for(5)
    work.result = 60
    calls = work.calls
    wait_until(lambda: work.calls == calls or work.calls == calls + 1, what="the last short pause")
    work.thread.wake()
    work.wait_for(calls + 1)


def test_idle_thread_ends_and_another_one_is_started(make):
    work = make(idle_seconds=lambda: 0.01)
    work.thread.wake()
    wait_until(lambda: not work.thread.is_running, what="the thread to end")
    wait_until(lambda: work.events == ["begin", "end"], what="the session to end")
    work.thread.wake()
    work.wait_for(2)


def test_no_wake_is_lost_while_threads_end(make):
    """Each finds the thread working, or starts another one."""
    work = make(idle_seconds=lambda: 0.0)
    todo, done = [], []

    def take():
        while todo:
            done.append(todo.pop())

    work.run = take
    for number in range(3000):
        todo.append(number)
        work.thread.wake()
        if number % 7 == 0:
            time.sleep(0)
    wait_until(lambda: len(done) == 3000, timeout=10, what="all of it to be done")


def test_no_thread_is_left(make, monkeypatch):
    """The caller gets the error, and the next wake tries again."""
    work = make()

    def fail(*args):
        raise NoThread("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(supervised, "start_thread", fail)
        with pytest.raises(NoThread):
            work.thread.wake()
    assert not work.thread.is_running
    work.thread.wake()
    work.wait_for(1)


@pytest.fixture
def short_retry(set_bounds):
    """Have the first pause after an error be short."""
    set_bounds(retries=0.01)


@pytest.mark.parametrize("error", [RuntimeError, SystemExit])
def test_error(make, caplog, error, short_retry):
    """It is logged, and the work goes on after longer and longer pauses, in a new session."""
    work, times = make(), []

    def fail():
        times.append(time.monotonic())
        if len(times) < 5:
            raise error("broken")

    work.run = fail
    work.thread.wake()
    work.wait_for(5)
    assert len(work.threads) == 1 and work.events == ["begin", "end"] * 4 + ["begin"]
    assert caplog.text.count("A thread failed, and goes on: supervised") == 1
    assert times[4] - times[3] >= 0.08


def test_stop_while_it_waits(make):
    work = make()
    work.result = 60
    work.thread.wake()
    work.wait_for(1)
    work.thread.stop(10)
    assert not work.thread.is_running and work.events == ["begin", "end"]
    work.thread.wake()
    assert not work.thread.is_running


def test_stop_while_it_is_busy(make):
    """It waits no longer than the timeout. The thread ends after the call."""
    work, gate, busy = make(), threading.Event(), threading.Event()
    work.run = lambda: (busy.set(), gate.wait(30))
    work.thread.wake()
    assert busy.wait(10)
    started = time.monotonic()
    work.thread.stop(0.05)
    assert time.monotonic() - started < 5 and work.thread.is_running
    gate.set()
    wait_until(lambda: not work.thread.is_running, what="the thread to end")
    assert work.calls == 1


def test_pause_after_an_error_begins_anew(make, monkeypatch, short_retry):
    """After work that was done."""
    monkeypatch.setattr(supervised, "MAX_RETRY_SECONDS", 60.0)
    work = make()
    work.result = 0.0
    work.run = lambda: 1 / (work.calls % 2)
    work.thread.wake()
    work.wait_for(30)  # with 15 errors


def test_stop_while_no_session_can_be_entered(make, caplog, short_retry):
    work = make()

    def refuse():
        raise OSError("no descriptor")

    work.thread._session = refuse
    work.thread.wake()
    wait_until(lambda: "no descriptor" in caplog.text, what="the error")
    work.thread.stop(10)
    assert not work.thread.is_running


def test_end_of_a_session_that_fails(make, short_retry):
    """The thread has ended already, and another one may work."""
    work = make(idle_seconds=lambda: 0.0)

    @contextmanager
    def session():
        yield
        ended.append(threading.current_thread())
        raise OSError("cannot close")

    ended = []
    work.thread._session = session
    work.thread.wake()
    wait_until(lambda: ended, what="the end of the session")
    ended[0].join(10)
    assert not ended[0].is_alive() and work.calls == 1


def test_stop_after_an_error(make, set_bounds):
    """It does not wait for the pause."""
    set_bounds(retries=60.0)
    work = make()
    work.run = lambda: 1 / 0
    work.thread.wake()
    work.wait_for(1)
    work.thread.stop(10)
    assert not work.thread.is_running


def test_stop_by_the_work_itself(make):
    work = make()
    work.run = lambda: work.thread.stop(10)
    work.thread.wake()
    wait_until(lambda: not work.thread.is_running, what="the thread to end")


@pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork")
def test_fork(make):
    """The child has no such thread, also if the lock was held, and starts its own."""
    work = make()
    work.thread.wake()
    work.wait_for(1)
    with work.thread._lock:
        pid = os.fork()
        if not pid:
            work.threads.clear()
            is_right = not work.thread.is_running
            work.thread.wake()
            end = time.monotonic() + 10
            while not work.threads and time.monotonic() < end:
                time.sleep(0.01)
            os._exit(0 if is_right and work.threads else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    work.thread.wake()
    work.wait_for(2)
