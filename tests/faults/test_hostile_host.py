"""The host's own code does whatever it can to the worker that calls it: it costs no job anything, and no worker."""

import pytest

from tests.faults.support.engine import ROUNDS, Engine
from tests.faults.support.hostile import FUNCTIONS, RAISES, SIGNALS, SLOW, WAYS

#: Of each round: jobs of nobody's harm, and receivers that take longer than they may.
INNOCENT, LATE = 60, 1
QUICK = [way for way in WAYS if way not in SLOW]


@pytest.fixture
def engine(site):
    # The lease is not what saves them.
    engine = Engine(site, "hostile", DJANGO_SETTINGS_MODULE="tests.faults.support.hostile_settings")
    yield engine
    engine.close()


@pytest.mark.timeout(300 + 60 * ROUNDS)
def test_hostile_code_of_the_host_costs_nothing(engine):
    """Every job ends once and is told once, innocent receivers are heard, and both workers stop as they should."""
    workers = [engine.site.start_worker() for _ in range(2)]
    innocent = []
    for number in range(ROUNDS // 5 or 1):
        asked = deeds(engine.chance)
        print(f"{number}: {len(asked)} kinds of misbehavior")
        for place, way in asked:
            engine.ask("misbehave", args=[place, way])
            innocent += engine.ask("work", count=-(-INNOCENT // len(asked)), args=[0])
        engine.until_done(timeout=180)
    engine.assert_law()
    jobs = engine.jobs()
    failed = {job.id for job in jobs if job.state == "failed"}
    assert failed == {job.id for job in jobs if job.task == "misbehave" and '"tell_owner"' in job.args}
    # What the receiver of another app asked for inside the transactions is there, once.
    follow_ups = [job for job in jobs if job.task == "follow_up"]
    assert len(follow_ups) == len(innocent)
    assert {job.attempt for job in jobs if job.id in innocent} == {1}
    for worker in workers:
        assert worker.running, worker.output
        assert worker.stop() == 0, worker.output
    log = "".join(worker.output for worker in workers)
    for receiver in ("recording", "recorded", "finished", "task_began", "task_ended"):
        assert f"tests.faults.support.hostile.{receiver}" in log, "The log names who did it."
    assert "has ended; jobs released: 0" in log


def deeds(chance):
    """Each way at a place of its own and each place in a way of its own, in any order; in the long form all of both."""
    if ROUNDS:
        found = [(place, way) for place in SIGNALS for way in QUICK]
    else:
        found = [("recording", way) for way in QUICK]
        found += [(place, chance.choice(QUICK)) for place in SIGNALS for _ in range(2)]
        found += [(place, chance.choice(RAISES)) for place in SIGNALS]
    found += [(place, way) for place in FUNCTIONS for way in RAISES]
    found += [("recording", chance.choice(SLOW)) for _ in range(LATE)]
    found += [("finished", "take_long")]
    chance.shuffle(found)
    return found
