"""Which processes enqueue the jobs of schedules: workers, and server processes where an engine runs the jobs."""

import threading
import time
from datetime import timedelta
from itertools import pairwise

import pytest
from django.contrib.auth.models import UserManager
from django.db import OperationalError, connection
from django.utils.functional import lazy

from notifications.api import policy, task
from notifications.contrib.engines.server import ServerUpkeep
from notifications.contrib.schedules.models import Tick
from notifications.models import Worker
from notifications.testing import run_jobs
from tests.support.django_tasks import task_enqueued
from tests.support.statements import preceded, refused
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.nightly_on_postgres]
#: The first statement of a round, and one in the transaction that locks the schedules.
READ_SCHEDULES, INSERT_TICK = (
    "FROM notifications_schedules_schedule WHERE options IS NULL",
    "INSERT INTO .notifications_schedules_tick",
)


#: The kinds of code of the project that were called for a job of `recorded`, and whether in a transaction.
calls = []


def record_call(kind):
    calls.append((kind, connection.in_atomic_block))
    return "title"


@task
@policy(title=lazy(record_call, str)("policy"))
def recorded():
    pass


@pytest.fixture
def each_second(settings):
    """A schedule is due each second."""
    schedules = {"poll": {"task": "tests.jobs.tasks.noop", "every": timedelta(seconds=1)}}
    settings.NOTIFICATIONS = {**settings.NOTIFICATIONS, "SCHEDULES": schedules}


def wait_for_ticks(**fields):
    wait_until(
        lambda: Tick.objects.filter(outcome="enqueued", **fields).count() >= 2, timeout=60, what="ticks"
    )


def test_worker(each_second, start_worker):
    """It enqueues the jobs, runs them and records how they ended."""
    start_worker()
    wait_for_ticks(job_state="succeeded")


@pytest.mark.with_all_apps("it has an engine")
def test_server_process_with_an_engine(each_second, with_engine):
    """No worker lives here; the upkeep of the server enqueues them."""
    loop = ServerUpkeep()
    loop.wake()
    try:
        wait_until(lambda: Tick.objects.filter(outcome="enqueued").exists(), timeout=60, what="a tick")
    finally:
        loop.stop(60)
    assert not loop.is_running


def test_server_process_goes_on_after_an_error(each_second, with_engine):
    """Its thread begins anew after an error that is no Exception, with new threads for code of the project."""
    loop = ServerUpkeep()
    with refused("FROM .notifications_dutyrun", times=1, error=SystemExit) as failed:
        loop.wake()
        try:
            wait_until(lambda: failed and Tick.objects.count() > 2, timeout=60, what="later ticks")
        finally:
            loop.stop(60)


def test_no_code_of_the_project_holds_a_schedule(each_second, start_worker, settings, connect_receiver):
    """Neither its policy nor its receivers are called in the transaction that locks the row."""
    settings.NOTIFICATIONS["SCHEDULES"]["poll"]["task"] = "tests.contrib.schedules.test_processes.recorded"
    connect_receiver(task_enqueued, lambda **kwargs: record_call("receiver"))
    calls.clear()
    start_worker()
    wait_for_ticks()
    assert {("policy", False), ("receiver", False)} == set(calls)


def test_a_frozen_process_frees_the_schedules_after_a_second(schedules):
    """On PostgreSQL, which ends a transaction that sends nothing. Other processes record the ticks."""
    if connection.vendor != "postgresql":
        pytest.skip("A process frozen with SQLite's only lock stops all others.")
    row = schedules.declare()
    with preceded(INSERT_TICK, lambda: len(claims) > 1 or time.sleep(1.5), times=2) as claims:
        schedules.round(at=row.next_tick)
    assert len(claims) == 2  # the first one was rolled back
    assert schedules.ticks() == [("enqueued", 1)]


def test_ends_of_many_runs_are_recorded_together(schedules, settings, django_assert_max_num_queries):
    """Each of four processes would need a transaction for each run, which takes longer than the interval."""
    task = {"task": "tests.jobs.tasks.noop", "every": timedelta(minutes=10)}
    declared = {f"poll-{number}": task for number in range(10)}
    settings.NOTIFICATIONS = {**settings.NOTIFICATIONS, "SCHEDULES": declared}
    schedules.run_round()
    schedules.round(at=schedules.row("poll-0").next_tick)
    run_jobs()
    with django_assert_max_num_queries(9 + len(declared)) as queries:
        schedules.run_round()
    assert not [query for query in queries if 'UPDATE "notifications_schedules_schedule"' in query["sql"]]
    assert Tick.objects.filter(job_state="succeeded").count() == len(declared)


@pytest.mark.parametrize("failures", [3])
def test_schedules_go_on_soon_after_an_outage(each_second, start_worker, caplog, failures):
    """A round that fails is tried again after half a second, and the log has one line."""
    times = []

    def fail():
        times.append(time.monotonic())
        if len(times) <= failures:
            raise OperationalError("the database is starting up")

    with preceded(READ_SCHEDULES, fail, times=failures + 1):
        start_worker()
        wait_for_ticks()
    # A busy machine makes some of them longer.
    assert min(after - before for before, after in pairwise(times)) < 0.95
    assert caplog.text.count("The worker waits for the database") == 1


@pytest.fixture
def never_found(settings, monkeypatch, set_bounds, transactional_db):
    """The manager of users looks for the owner of two schedules until this event. Another one is due each second."""
    found = threading.Event()

    def find(manager, *args, **conditions):
        if "username" in conditions:
            found.wait(60)
        return manager.get_queryset().filter(*args, **conditions)

    options = {"task": "tests.jobs.tasks.noop", "every": timedelta(seconds=1)}
    schedules = {"poll": options, "first": {**options, "owner": "ada"}, "second": {**options, "owner": "ada"}}
    settings.NOTIFICATIONS = {**settings.NOTIFICATIONS, "SCHEDULES": schedules, "LEASE": 4}
    monkeypatch.setattr(UserManager, "filter", find)
    set_bounds(answers=0.3)
    before = threading.enumerate()
    yield found
    found.set()
    wait_until(
        lambda: (
            not [
                thread
                for thread in threading.enumerate()
                if thread.name.startswith("notifications-project") and thread not in before
            ]
        ),
        what="the rounds to return",
    )


def test_owner_who_is_looked_for_for_ever_stops_no_other_schedule(never_found, start_worker, user, caplog):
    """The log has the stacks of both rounds."""
    start_worker()
    wait_for_ticks(schedule="poll", job_state="succeeded")
    wait_until(lambda: Worker.objects.filter(stuck_calls=2).exists(), what="two rounds to be stuck")
    lines = [record.getMessage() for record in caplog.records]
    stacks = [line for line in lines if "has not returned for" in line]
    assert len(stacks) == 2 and all("in find\n" in stack for stack in stacks)
    assert not Tick.objects.filter(schedule__in=["first", "second"]).exists()
    never_found.set()
    wait_until(lambda: Tick.objects.filter(schedule="first").exists(), timeout=60, what="a tick of the owner")
    wait_until(lambda: not Worker.objects.filter(stuck_calls__gt=0).exists(), what="the rounds to return")


def test_server_process_goes_on_although_an_owner_is_looked_for(never_found, with_engine):
    """Its rounds are on threads of the same kind."""
    loop = ServerUpkeep()
    loop.wake()
    try:
        wait_until(lambda: Tick.objects.filter(schedule="poll").exists(), timeout=60, what="a tick")
    finally:
        never_found.set()
        loop.stop(60)
