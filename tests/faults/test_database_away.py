"""PostgreSQL crashes under load and stays away for longer than a lease: jobs are late, none is lost or run twice."""

import time

import pytest

from tests.faults.support.engine import PATIENCE, ROUNDS, Engine
from tests.support.postgres import Postgres
from tests.support.site import Sites
from tests.support.waiting import wait_until

# Crashes a cluster of its own, whatever the database of the run is.
pytestmark = pytest.mark.delivery

LEASE, WORKERS, HELD = 3, 3, 9


@pytest.fixture
def engine(tmp_path):
    cluster = Postgres()
    engine = Engine(Sites(tmp_path, cluster).make(), "away", lease=LEASE)
    engine.cluster = cluster
    yield engine
    engine.close()
    engine.site.close()
    cluster.stop()


@pytest.mark.timeout(300 + 30 * ROUNDS)
def test_postgresql_crashes_and_stays_away(engine):
    """The workers come back by themselves, with their jobs: every lease was over, and nobody took them away.

    Every other time it is back at once.
    """
    workers = [engine.site.start_worker() for _ in range(WORKERS)]
    for number in range(ROUNDS // 5 or 1):
        held = [job for task in ("hold", "hold_sync") for job in engine.ask(task, HELD)]
        engine.until_begun(held)
        asked = [engine.ask(task, 60, args=[0.05]) for task in ("work", "work_sync")]
        wait_until(
            lambda asked=asked: engine.effects("done", jobs=asked[0]),
            timeout=PATIENCE,
            what="the load to begin",
        )
        time.sleep(engine.chance.random() * 0.3)
        engine.cluster.crash()
        away = LEASE * 1.5 if number % 2 == 0 else 0
        time.sleep(away)  # nobody can be asked whether the leases are over
        engine.cluster.start()
        wait_until(
            lambda: all_hold_leases(engine), timeout=PATIENCE, what="every worker to hold a lease again"
        )
        engine.open()
        engine.until_done()
        begun = engine.effects("began", jobs={*held, *asked[0], *asked[1]})
        assert len(begun) == len({effect.job for effect in begun}) == 2 * HELD + 120, "A job ran twice."
        assert {(job.state, job.attempt) for job in engine.jobs()} == {("succeeded", 1)}
        engine.close_gates()
        print(f"{number}: away for {away:g} s")
    engine.assert_law()
    assert all(worker.running for worker in workers)


def all_hold_leases(engine):
    leases = "SELECT count(*) FROM notifications_worker WHERE lease_until > clock_timestamp()"
    return engine.site.rows(leases)[0][0] == WORKERS
