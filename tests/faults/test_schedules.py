"""Schedules beside killed workers and wrong clocks: one job for each tick, and no tick is lost."""

import random
import signal
from datetime import UTC, datetime, timedelta

import pytest

from tests.faults.support.engine import ROUNDS
from tests.support.waiting import wait_until

WORKERS, TICKS = 10, 1_000 if ROUNDS else 200
TIMEOUT_SECONDS = 600
#: Freezes and kills, in turns.
FAULTS = 20 if ROUNDS else 2
TICKS_OF = (
    "SELECT due_at, first_due_at, count, outcome, job, recorded_at FROM notifications_tick ORDER BY due_at"
)
JOBS_OF = "SELECT id FROM notifications_job WHERE schedule = 'poll'"


@pytest.fixture
def schedule_site(site):
    """A site whose workers have one schedule."""
    site.environment |= {
        "DJANGO_SETTINGS_MODULE": "tests.faults.support.schedule_settings",
        "EMBEDDED_WORKER": "0",
    }
    return site


def start_worker(site):
    return site.start("worker", "manage.py", "run_jobs")


def moment(value):
    value = datetime.fromisoformat(value) if isinstance(value, str) else value
    return value if value is None or value.tzinfo else value.replace(tzinfo=UTC)


def count_ticks(site):
    return site.rows("SELECT COALESCE(SUM(count), 0) FROM notifications_tick")[0][0]


def assert_one_job_a_tick(site, every):
    """Check that the ticks have no gap and no overlap, and that each enqueued one has a job of its own."""
    ticks = site.rows(TICKS_OF)
    expected = None
    for due_at, first_due_at, count, outcome, job, _ in ticks:
        first = moment(first_due_at or due_at)
        assert expected is None or first == expected, f"A gap or an overlap before {first}."
        assert moment(due_at) == first + (count - 1) * every
        assert outcome in ("enqueued", "missed") and (job is not None) == (outcome == "enqueued")
        expected = moment(due_at) + every
    enqueued = [str(job) for *_, outcome, job, _ in ticks if outcome == "enqueued"]
    assert sorted(enqueued) == sorted(str(id) for (id,) in site.rows(JOBS_OF))
    assert len(set(enqueued)) == len(enqueued)
    return ticks


@pytest.mark.timeout(2 * TIMEOUT_SECONDS)
def test_workers_killed_at_random(schedule_site):
    """Ten workers, of which each may be killed at any statement, and once all of them are."""
    every = timedelta(seconds=0.2)
    schedule_site.environment["TEST_EVERY"] = str(every.total_seconds())
    rng = random.Random(13)
    # None is waited for: on a busy machine each takes long to start, and one may be killed before it has.
    workers = [start_worker(schedule_site) for _ in range(WORKERS)]
    next_kill, kills = 25, 0
    while next_kill < TICKS:
        wait_until(
            lambda at=next_kill: count_ticks(schedule_site) >= at, timeout=TIMEOUT_SECONDS, what="more ticks"
        )
        victims = list(workers) if kills == 3 else [rng.choice(workers[: WORKERS // 2])]
        for worker in victims:
            worker.kill()
            workers.remove(worker)
        workers += [start_worker(schedule_site) for _ in victims]
        kills += 1
        next_kill = count_ticks(schedule_site) + rng.randint(5, 50)
    wait_until(lambda: count_ticks(schedule_site) >= TICKS, timeout=TIMEOUT_SECONDS, what="all ticks")
    for worker in workers:
        worker.kill()
    ticks = assert_one_job_a_tick(schedule_site, every)
    missed = sum(count for _, _, count, outcome, _, _ in ticks if outcome == "missed")
    print(f"{kills} kills, {sum(tick[2] for tick in ticks)} ticks, {missed} missed")
    # A tick that was missed had a later one within the grace to run in its place.
    assert ticks[-1][3] == "enqueued"


@pytest.mark.timeout(TIMEOUT_SECONDS)
def test_clocks_of_two_machines(schedule_site, tmp_path):
    """One clock is 5 s fast: with PostgreSQL no tick is early; with SQLite it is, and each still has one job."""
    clock = tmp_path / "clock"
    clock.write_text("5")
    schedule_site.start_worker()
    schedule_site.environment["FAULT_CLOCK"] = str(clock)
    fast = schedule_site.start_worker()
    wait_until(lambda: count_ticks(schedule_site) >= 20, timeout=TIMEOUT_SECONDS / 4, what="20 ticks")
    fast.kill()
    before = count_ticks(schedule_site)
    wait_until(
        lambda: count_ticks(schedule_site) >= before + 3, timeout=TIMEOUT_SECONDS / 4, what="ticks without it"
    )
    ticks = assert_one_job_a_tick(schedule_site, timedelta(seconds=1))
    if not schedule_site.database_url.startswith("sqlite"):
        assert all(moment(due_at) <= moment(recorded_at) for due_at, *_, recorded_at in ticks)


@pytest.mark.timeout(TIMEOUT_SECONDS)
def test_lateness_of_many_schedules(schedule_site):
    """Forty schedules of each 2 s in four workers, of which one is frozen and one killed: prints how late ticks are."""
    every = timedelta(seconds=2)
    schedule_site.environment |= {"TEST_EVERY": "2", "TEST_SCHEDULES": "40"}
    workers = [schedule_site.start_worker() for _ in range(4)]
    for number in range(FAULTS):
        at = count_ticks(schedule_site) + 200
        wait_until(lambda at=at: count_ticks(schedule_site) >= at, timeout=TIMEOUT_SECONDS, what="more ticks")
        if number % 2:
            workers.pop(1).kill()
            workers.append(schedule_site.start_worker())
        else:
            workers[0].popen.send_signal(signal.SIGSTOP)
            at += 400
            wait_until(
                lambda at=at: count_ticks(schedule_site) >= at,
                timeout=TIMEOUT_SECONDS,
                what="ticks without it",
            )
            workers[0].popen.send_signal(signal.SIGCONT)
    at = count_ticks(schedule_site) + 200
    wait_until(lambda: count_ticks(schedule_site) >= at, timeout=TIMEOUT_SECONDS, what="the last ticks")
    for worker in workers:
        worker.kill()
    sql = "SELECT schedule_id, due_at, recorded_at, count, outcome FROM notifications_tick ORDER BY schedule_id, due_at"
    late, missed, last = [], 0, {}
    for schedule, due_at, recorded_at, count, outcome in schedule_site.rows(sql):
        due, recorded = moment(due_at), moment(recorded_at)
        assert schedule not in last or due - count * every == last[schedule], f"A gap before {due}."
        last[schedule] = due
        missed += count if outcome == "missed" else 0
        late.append((recorded - due).total_seconds())
    assert len(last) == 40
    late.sort()
    p50, p99 = late[len(late) // 2], late[len(late) * 99 // 100]
    figures = f"late p50 {p50 * 1000:.0f} ms, p99 {p99 * 1000:.0f} ms, worst {late[-1]:.2f} s"
    print(f"{len(late)} ticks, {missed} missed; {figures}")
