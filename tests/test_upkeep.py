"""Duties: which process runs one, what it does when one fails, and their list."""

import re
import time
from datetime import timedelta

import pytest
from django.db import DataError, OperationalError, ProgrammingError, connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from notifications import upkeep
from notifications.contrib.deliveries.models import Delivery
from notifications.db import insert_rows, new_row
from notifications.extension import hooks
from notifications.models import DutyRun, Job, Notification, PendingMark, Ring, Wait, Worker, uuid7
from tests.jobs.conftest import (  # noqa: F401 (fixtures)
    gate,
    longest_backoff,
    short_join_idle,
    start_worker,
    with_engine,
)
from tests.support.checks import doctor
from tests.support.statements import preceded
from tests.support.threads import run_in_threads
from tests.worker.test_maintenance import lines, make_upkeep, not_migrated, raising  # noqa: F401 (one is a fixture)

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.nightly_on_old_django]


class TestElection:
    @pytest.fixture
    def processes(self):
        """Return three processes, each with the duty "sweep" every 60 s, and how often it was run in all."""
        runs = []

        def process():
            made = make_upkeep()
            made.duties = [upkeep.Duty("sweep", 60, lambda: runs.append(made))]
            return made

        DutyRun.objects.create(name="sweep", last_run_at=timezone.now() - timedelta(seconds=61))
        return [process() for _ in range(3)], runs

    def store(self, seconds):
        """Store that the duty was run so many seconds ago."""
        DutyRun.objects.update(last_run_at=timezone.now() - timedelta(seconds=seconds))

    def test_one_process_at_a_time(self, processes):
        """The next one an interval later, and those that were not elected look again only then."""
        found, runs = processes
        run_in_threads(*(each.run_round for each in found))
        assert len(runs) == 1
        for each in found:
            assert 55 < each.duties[0].due_at - time.monotonic() <= 60
        self.store(61)
        for each in found:
            each.duties[0].due_at = 0.0
            each.run_round()
        assert len(runs) == 2

    def test_it_is_looked_for_when_the_interval_of_the_other_process_is_over(self, processes):
        (first, *_), runs = processes
        self.store(40)
        first.run_round()
        assert runs == [] and 15 < first.duties[0].due_at - time.monotonic() <= 20

    def test_idle_processes_write_nothing(self, processes, django_assert_num_queries):
        """They read the rows and the clock, and nothing more before one can be due."""
        (first, *_), _ = processes
        self.store(1)
        with CaptureQueriesContext(connection) as captured:
            first.run_round()
        assert len(captured) <= 2 and all(query["sql"].startswith("SELECT") for query in captured)
        with django_assert_num_queries(0):
            first.run_round()

    def test_without_something_to_do_no_process_is_elected(self, processes):
        """The condition of the duty is the only query."""
        (first, *_), runs = processes
        first.duties[0].condition = lambda: ("EXISTS (SELECT 1 FROM notifications_job)", ())
        for expected in ([], [first]):
            if expected:
                add_job()
            first.duties[0].due_at = 0.0
            with CaptureQueriesContext(connection) as captured:
                first.run_round()
            assert runs == expected and (len(captured) == 1) is not bool(runs)

    def test_several_duties_are_claimed_by_one_transaction(self, processes):
        """On SQLite each commit is one more write of the disk."""
        (first, *_), runs = processes
        first.duties += [upkeep.Duty("sort", 60, lambda: runs.append("sort"))]
        DutyRun.objects.create(name="sort", last_run_at=timezone.now() - timedelta(seconds=61))
        with CaptureQueriesContext(connection) as captured:
            first.run_round()
        assert len(runs) == 2
        # On PostgreSQL the first one begins with the statements of each transaction.
        assert sum(query["sql"].startswith("UPDATE") or "; UPDATE" in query["sql"] for query in captured) == 2
        assert sum(query["sql"].startswith(("BEGIN", "SAVEPOINT")) for query in captured) <= 1

    @pytest.mark.parametrize("seconds", [-3600, -10 * 365 * 86_400])
    def test_time_of_a_wrong_clock(self, processes, seconds):
        """It does not delay the duty, and doctor names it until then."""
        (first, *_), runs = processes
        self.store(seconds)
        first.run_round()
        assert runs == [first]
        assert abs((DutyRun.objects.get().last_run_at - timezone.now()).total_seconds()) < 10

    def test_process_that_ends_in_the_duty(self, processes):
        """The next one takes its turn an interval later."""
        (first, second, _), runs = processes
        assert upkeep.elect(first.find_due()) == first.duties  # and ends here
        second.run_round()
        self.store(60)
        second.duties[0].due_at = 0.0
        second.run_round()
        assert runs == [second]

    def test_long_run(self, processes):
        """It goes on in its process, which stores that it does, also beyond the interval."""
        (first, second, _), runs = processes
        first.duties[0].run = lambda: runs.append(first) or True
        first.run_round()
        stored = DutyRun.objects.get().last_run_at
        first.run_round()
        assert DutyRun.objects.get().last_run_at == stored  # not for each chunk
        first.duties[0].claimed_until = 0.0
        first.run_round()
        assert DutyRun.objects.get().last_run_at > stored
        second.run_round()
        assert runs == [first] * 3

    def test_long_run_that_was_frozen(self, processes):
        """Another process has taken the duty over, so this one stops."""
        (first, second, _), runs = processes
        first.duties[0].run = lambda: runs.append(first) or True
        first.run_round()
        self.store(61)
        second.run_round()
        first.duties[0].claimed_until = 0.0
        first.run_round()
        assert runs == [first, second]

    def test_new_duty(self, processes):
        """Of a new database, or a new version: as if it had been run when the first process began."""
        (first, *_), runs = processes
        DutyRun.objects.all().delete()
        first.run_round()
        assert runs == [] and DutyRun.objects.get().name == "sweep"
        assert first.duties[0].due_at > time.monotonic() + 50

    def test_duty_that_fails(self, processes, caplog):
        """It is tried again an interval later, by any process."""
        (first, *_), _ = processes
        first.duties[0].run = raising(RuntimeError("broken"))
        first.run_round()
        assert "Could not sweep, which is tried again" in caplog.text
        assert first.duties[0].claimed is None and first.find_due() == []

    def test_unavailable_database(self, processes):
        """The same process goes on when it is back."""
        (first, *_), runs = processes
        duty = first.duties[0]
        run, duty.run = duty.run, raising(OperationalError("away"))
        with pytest.raises(OperationalError):
            first.run_round()
        duty.run = run
        first.run_round()
        assert runs == [first]

    def test_process_that_fails_again_and_again(self, processes):
        """As one without memory does: it keeps the duty for half an interval, and is then behind the others."""
        (first, second, _), runs = processes
        duty = first.duties[0]
        duty.run = raising(MemoryError())
        for _ in range(2):
            with pytest.raises(MemoryError):
                first.run_round()
        duty.claimed_until = 0.0
        first.run_round()
        assert duty.claimed is None and duty.due_at > time.monotonic() + 80  # 60 s, and half of it
        self.store(61)
        second.run_round()
        assert runs == [second]

    def test_migration_that_is_not_applied_yet(self, processes, not_migrated):  # noqa: F811
        """New processes of a deploy do what needs no election."""
        (first, *_), runs = processes
        first.duties.append(upkeep.Duty("number", 0, lambda: runs.append("number"), is_for_each_process=True))
        with preceded("notifications_dutyrun", not_migrated, times=None):
            first.run_round()
        assert runs == ["number"]


def test_doctor_lists_the_duties(transactional_db):
    """With their ages; one that no process does is an error, and so is a time that lies ahead."""
    assert doctor("duties")[0]["state"] == "ok"  # nothing was started yet
    process = upkeep.Upkeep(upkeep.Where.WORKER, seconds=0.05)
    upkeep.elect([duty for duty in process.duties if not duty.is_for_each_process])
    names = {"record failures", "evaluate alerts", "roll up statistics", "prune old rows"}
    names |= {"fail abandoned deliveries", "queue jobs that wait for nothing"}
    names |= {"update who is asked open questions", "cancel waits of ended jobs"}
    names |= {"close questions without a wait", "set next runs of stored schedules"}
    elected = set(DutyRun.objects.values_list("name", flat=True))
    # The first of these is done at the start without, and of the other one it is known when there is something to do.
    assert elected == names - {"cancel waits of ended jobs", "close questions without a wait"} | {
        "remove files"  # done where code of the project is, which is not what doctor measures here
    }
    (found,) = doctor("duties")
    assert found["state"] == "ok" and set(found["figures"]) == names
    assert re.search(r"roll up statistics \d s ago \(every 60 s\)", found["message"])
    for seconds, text in ((4 * 3600, "old rows 144"), (-60, "lies ahead")):
        moment = timezone.now() - timedelta(seconds=seconds)
        DutyRun.objects.filter(name="prune old rows").update(last_run_at=moment)
        (found,) = doctor("duties")
        assert found["state"] == "error" and text in found["message"]
        assert "prune old rows" in found["message"] and "roll up" not in found["message"]


@pytest.mark.parametrize("error", [RuntimeError, ConnectionRefusedError, DataError, ProgrammingError])
def test_one_duty_that_fails_keeps_no_other_from_being_done(caplog, error):
    """Neither does one that the database refuses for good."""
    done = []
    make_upkeep(break_=raising(error("broken")), go_on=lambda: done.append(1)).run_round()
    assert done == [1]
    assert "Could not break_, which is tried again" in caplog.text


def test_database_that_is_not_migrated_is_logged_once_a_minute(caplog, not_migrated, set_bounds):  # noqa: F811
    """Not one traceback for each duty in each round."""
    process = make_upkeep(break_=not_migrated, break_too=not_migrated)
    for _ in range(3):
        process.run_round()
    (line,) = lines(caplog)
    assert "The database is not migrated: " in line and "missing" in line
    set_bounds(known=0)
    process.run_round()
    assert len(lines(caplog)) == 2


def test_database_that_is_away_ends_the_round():
    """The caller closes its connections, and the other duties would only wait too."""
    done = []
    process = make_upkeep(read=raising(OperationalError("away")), go_on=lambda: done.append(1))
    with pytest.raises(OperationalError):
        process.run_round()
    assert done == []


ENQUEUE_DELIVERIES = [
    f"enqueue deliveries by {name or 'channels that are not installed'}" for name in (*hooks.channels, "")
]


class TestConditions:
    @pytest.fixture
    def process(self):
        """Return an upkeep with duties of each worker that have conditions, and the names of those that were run."""
        process = upkeep.Upkeep(upkeep.Where.WORKER, seconds=0.05, may_reap=lambda: True)
        process.duties = [duty for duty in process.duties if duty.condition and duty.is_for_each_process]
        names = []
        for duty in process.duties:
            duty.subjects, duty.run = None, lambda name=duty.name: names.append(name)
        return process, names

    def test_an_idle_process_asks_once_for_all_duties(self, process, django_assert_num_queries):
        process, names = process
        for duty in process.duties:
            duty.every = 0
        with django_assert_num_queries(1) as captured:
            process.run_round()
        assert len(process.duties) == 12 + len(ENQUEUE_DELIVERIES) and names == []
        # Two duties have this condition.
        assert captured[0]["sql"].count("state = 'running' AND worker IS NULL") == 1
        assert all(
            duty.due_at <= time.monotonic() for duty in process.duties
        )  # they are asked for in the next round

    @pytest.mark.parametrize(
        ("make_row", "expected"),
        [
            (lambda user: add_notification(user, seq=None), ["number pending changes"]),
            (lambda user: add_notification(user, seq=1), []),
            (lambda user: add_job(user=user, state="failed", seq=None), ["number pending changes"]),
            (lambda user: add_job(worker=uuid7()), ["take jobs from lost workers"]),
            (lambda user: add_job(), ["resume cancellations of batches", "finish batches"]),
            (lambda user: add_job(state="queued", expires_at=in_seconds(-1)), ["end expired jobs"]),
            (lambda user: add_job(state="queued", expires_at=in_seconds(60)), []),
            (lambda user: add_worker(-1), ["take jobs from lost workers"]),
            (lambda user: add_worker(60), []),
            (lambda user: add_delivery(user, -1), ENQUEUE_DELIVERIES),
            (lambda user: add_delivery(user, 60), []),
            (lambda user: add_wait(-1), ["end waits that are due"]),
            (lambda user: add_wait(60), []),
            (lambda user: add_wait(60, remind_at=in_seconds(-1)), ["remind of open questions"]),
            (lambda user: add_wait(60, remind_at=in_seconds(30)), []),
            (lambda user: add_wait(-1, ended_at=in_seconds(0)), []),
            (
                lambda user: add_notification(user, seq=1, snoozed_until=in_seconds(-1)),
                ["raise snoozed notifications"],
            ),
            (lambda user: add_notification(user, seq=1, snoozed_until=in_seconds(30)), []),
            (lambda user: add_mark(user), ["mark notifications as read"]),
            (
                lambda user: Ring.objects.create(rung_at=in_seconds(-60).timestamp()),
                ["number pending changes"],
            ),
            (lambda user: Ring.objects.create(rung_at=in_seconds(-30).timestamp()), []),
        ],
    )
    def test_a_row_makes_its_duty_run(self, process, user, make_row, expected):
        """In the next round; the other duties are left out."""
        process, names = process
        make_row(user)
        process.run_round()
        # PostgreSQL stores no rings.
        assert names == (expected if connection.vendor == "sqlite" or not Ring.objects.exists() else [])

    def test_a_condition_that_fails_leaves_out_no_duty(self, process):
        """Each duty then fails by itself, or not."""
        process, names = process
        process.duties[0].condition = lambda: ("EXISTS (SELECT missing FROM notifications_job)", ())
        process.run_round()
        assert names == [duty.name for duty in process.duties]


def in_seconds(seconds):
    return timezone.now() + timedelta(seconds=seconds)


def add_notification(user, **fields):
    insert_rows([new_row(Notification, user_id=user.pk, title="x", created_at=in_seconds(0), **fields)])


def add_job(**fields):
    values = {
        "state": "running",
        "seq": 0,
        "max_attempts": 1,
        "created_at": in_seconds(0),
        "queued_at": in_seconds(0),
    }
    Job.objects.create(**values | fields)


def add_worker(seconds):
    """Add a worker whose lease is over in so many seconds."""
    Worker.objects.create(started_at=in_seconds(-9), lease_until=in_seconds(seconds), concurrency=1)


def add_delivery(user, seconds):
    """Add a delivery that is due in so many seconds."""
    Delivery.objects.create(notification=uuid7(), user=user, channel="email", due_at=in_seconds(seconds))


def add_wait(seconds, **fields):
    """Add a wait that is due in so many seconds."""
    fields = {"job": uuid7(), "created_at": in_seconds(-60), "due_at": in_seconds(seconds), **fields}
    Wait.objects.create(kind="pause", name="nap", attempt=1, **fields)


def add_mark(user):
    PendingMark.objects.create(user=user, verb="read", moment=in_seconds(0), after=0, up_to=1)
