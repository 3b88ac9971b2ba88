"""A worker is frozen in the middle of a transaction, with rows and a stream locked: the others go on."""

import signal

import pytest

from tests.faults.support.deaths import INSERT
from tests.faults.support.engine import Engine


@pytest.fixture
def engine(site):
    if site.database_url.startswith("sqlite"):
        pytest.skip("Who is frozen with SQLite's one lock stops everybody.")
    engine = Engine(site, "locks", lease=4)
    yield engine
    for process in site.processes:
        if process.running:
            process.popen.send_signal(signal.SIGCONT)
    engine.close()


def test_others_go_on(engine):
    """Its transaction is ended by the server, its job done by another worker; later it finds out, and works on."""
    frozen = engine.start_worker(fate=f"SIGSTOP after {INSERT.format('stream')}")
    (first,) = engine.ask("work", args=[0])
    frozen.wait_until(lambda: is_stopped(frozen.pid), what="the worker to freeze")
    other = engine.site.start_worker()
    same_owner = engine.ask("work", 3, args=[0])
    engine.until_begun(same_owner)
    others = engine.ask("work", 3, args=[0], user="other")
    engine.until_all_done([first, *same_owner, *others])
    assert {effect.pid for effect in engine.effects("done", jobs={*same_owner, *others})} == {other.pid}
    frozen.popen.send_signal(signal.SIGCONT)
    frozen.wait_for_line("is void")
    other.stop()
    engine.until_all_done(engine.ask("work", 3, args=[0]))
    engine.until_done()
    engine.assert_law()


def is_stopped(pid):
    with open(f"/proc/{pid}/stat") as stat:
        return stat.read().rpartition(")")[2].split()[0] == "T"
