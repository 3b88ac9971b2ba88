"""All duties, of the core and of the apps: one subject that raises or takes long holds up no other.

The test finds the duties by itself, so a new one is walked too.
"""

import time
from collections import Counter
from datetime import timedelta
from types import SimpleNamespace
from uuid import UUID

import pytest
from django.db import DataError

from notifications import api, times
from notifications.extension import Subjects, Upkeep, Where
from notifications.models import Job, Notification, Wait, uuid7
from notifications.testing import run_jobs
from tests.jobs import tasks
from tests.support.duties import run_duty
from tests.support.statements import refused

pytestmark = pytest.mark.django_db(transaction=True)

#: Duties that do one thing, or are done elsewhere, with the reason.
WITHOUT_SUBJECTS = {
    "queue jobs that are due": "Its mover takes a chunk a call, of all queues in turn.",
    "announce problems": "Each topic is announced by itself, on a thread for code of the project.",
    "enqueue jobs of schedules": "Each schedule is isolated in its round, on a thread for code of the project.",
    "wake engines for waiting jobs": "It sends messages, in the background.",
    "evaluate alerts": "It reads a bounded number of rows of each kind.",
    "record failures": "It reads a bounded number of failed jobs a call, by a position.",
    "open limits that jobs wait for": "Its mover takes a chunk a call, of all limits in turn.",
    "check limits that jobs wait for": "It reads a bounded number of lines a call, by a position.",
}
SUBJECTS = 10_000
#: Workers do it in a loop of their own.
BY_TIMER = "queue jobs that are due"


def find_duties(where=Where.EVERYWHERE):
    process = Upkeep(where, seconds=0.05)
    return {each.name: each for each in (*process.duties, *process.own_loops)}


def test_every_duty_yields_subjects_or_has_a_reason_not_to():
    without = {name for name, each in find_duties().items() if each.subjects is None}
    assert without <= WITHOUT_SUBJECTS.keys()


@pytest.mark.parametrize(("where", "elsewhere"), [(Where.WORKER, {BY_TIMER}), (Where.ENGINE, set())])
def test_a_process_that_lasts_does_every_duty(where, elsewhere):
    """A worker, or one of an engine: each arrangement of processes that the docs allow has one of them."""
    assert find_duties(where).keys() == find_duties().keys() - elsewhere


@pytest.fixture
def clock(monkeypatch):
    """The clock of this process stands still. A call of a duty takes as long as the test says."""
    made = SimpleNamespace(now=1_000.0)
    monkeypatch.setattr(time, "monotonic", lambda: made.now)
    return made


@pytest.mark.parametrize("name", [name for name, each in find_duties().items() if each.subjects])
def test_a_subject_that_raises_and_one_that_takes_long(name, clock, caplog, forgotten_log):
    """Of 10,000. The others are done once, in rounds of 50 ms; the one that raises is tried again later and later."""
    found = find_duties()[name]
    done, rounds, broken, slow = Counter(), [], 17, 4_711
    size = found.subjects.size

    def run(group):
        clock.now += 0.001 * len(group) / size
        if broken in group:
            raise DataError("Out of order.")
        if slow in group:
            clock.now += 3
        done.update(group)

    found.run, found.subjects = run, Subjects(lambda: iter(range(SUBJECTS)), size)
    process = Upkeep(Where.EVERYWHERE, seconds=0.05)
    has_more = True
    while has_more:
        before, count = clock.now, done.total()
        has_more = process.run(found)
        if slow not in done or count > slow:
            rounds.append(clock.now - before)
    assert done == Counter(set(range(SUBJECTS)) - {broken})
    assert max(rounds) < 0.06
    assert caplog.text.count(f"Could not {name}, which is tried again: {broken}") == 1
    assert is_tried(process, found, broken)  # over a second has passed
    for pause in (2, 4):
        clock.now += 0.9 * pause
        assert not is_tried(process, found, broken)
        clock.now += 0.2 * pause
        assert is_tried(process, found, broken)


def is_tried(process, found, subject):
    tried = []

    def run(group):
        tried.extend(group)
        if subject in group:
            raise DataError("Out of order.")

    found.run = run
    while process.run(found):
        pass
    return subject in tried


@pytest.fixture
def poison():
    """poison(id) has the database refuse each change of this row."""

    def refuse(id):
        return refused(f"UPDATE .*({id}|{id.hex})", error=DataError)

    return refuse


def enqueue_many(**options):
    return [UUID(tasks.noop.using(**options).enqueue().id) for _ in range(4)]


def test_an_expired_job_that_cannot_be_ended(poison):
    first, *others = enqueue_many(expires=60)
    Job.objects.update(expires_at=times.now())
    with poison(first):
        run_duty("end expired jobs")
        assert not Job.objects.get(id=first).done
    assert all(job.done for job in Job.objects.filter(id__in=others))


def test_a_lost_job_that_cannot_be_requeued(poison):
    first, *_ = enqueue_many()
    lost = {"state": "running", "worker": uuid7(), "attempt": 1, "fence": 1, "started_at": times.now()}
    Job.objects.update(**lost, max_attempts=2)
    with poison(first):
        run_duty("take jobs from lost workers")
    assert set(Job.objects.filter(state="running").values_list("id", flat=True)) == {first}


def test_a_wait_that_cannot_be_ended(user, poison):
    for _ in range(4):
        tasks.nap.using(owner=user).enqueue()
    run_jobs()
    Wait.objects.update(due_at=times.now())
    first = Wait.objects.earliest("id")
    with poison(first.id):
        run_duty("end waits that are due")
    assert Wait.objects.get(ended_at=None) == first


def test_a_notification_that_cannot_be_raised(user, poison):
    ids = [api.notify(user, "Hello")[0] for _ in range(4)]
    past = times.now() - timedelta(seconds=1)
    Notification.objects.update(snoozed_until=past, archived_at=past)
    with poison(ids[0]):
        run_duty("raise snoozed notifications")
    assert Notification.objects.exclude(archived_at=None).get().id == ids[0]


def test_a_batch_that_cannot_be_ended(user, poison):
    ids = []
    for _ in range(4):
        with api.batch(owner=user) as batch:
            tasks.noop.enqueue()
        ids.append(UUID(batch.result.id))
    Job.objects.exclude(id__in=ids).update(state="succeeded", seq=1, finished_at=times.now())
    with poison(ids[0]):
        run_duty("finish batches")
    assert Job.objects.get(state="running").id == ids[0]


def test_what_a_duty_adds_is_done_in_groups():
    """A nested batch of 250 jobs is not cancelled in one transaction."""
    subjects = Subjects(lambda: iter(()), 100)
    subjects.add(range(250))
    sizes = []
    while group := subjects.take():
        sizes.append(len(group))
    assert sizes == [100, 100, 50]


def test_what_follows_is_found_in_the_next_round(user):
    """A search that has ended is not what the next one goes on with."""
    process = Upkeep(Where.WORKER, seconds=0)
    [numbering] = [each for each in process.duties if each.name == "number pending changes"]
    for _ in range(3):
        (id,) = api.notify(user, "Hello")
        Notification.objects.filter(id=id).update(seq=None)
        unfinished = [numbering]
        while unfinished:
            unfinished = process.run_first(unfinished)
        assert not Notification.objects.filter(seq=None).exists()


def test_reaping_ends_when_this_worker_may_not():
    """Its own lease was not renewed since the search began: the others may be as well as it is."""
    may_reap = [True]
    process = Upkeep(Where.WORKER, seconds=0, may_reap=lambda: may_reap[0])
    [reaping] = [each for each in process.duties if each.name == "take jobs from lost workers"]
    for _ in range(reaping.subjects.size + 1):
        tasks.noop.enqueue()
    lost = {"state": "running", "worker": uuid7(), "attempt": 1, "fence": 1, "started_at": times.now()}
    Job.objects.update(**lost, max_attempts=2)
    process.run(reaping)
    may_reap[0] = False
    while process.run(reaping):
        pass
    assert Job.objects.filter(state="running").count() == 1
