"""A worker is frozen in a transaction that has locked rows and a stream: other workers continue."""

import signal

import pytest

from tests.support.faults.engine import Engine
from tests.support.faults.freezing import is_stopped
from tests.support.faults.statement_faults import INSERT


@pytest.fixture
def engine(site):
    if site.database_url.startswith("sqlite"):
        pytest.skip("A process frozen with SQLite's only lock stops all others.")
    engine = Engine(site, "locks", lease=4)
    yield engine
    for process in site.processes:
        if process.running:
            process.popen.send_signal(signal.SIGCONT)
    engine.close()


def test_other_workers_continue(engine):
    """PostgreSQL ends the transaction and another worker executes the job. After SIGCONT the worker works again."""
    frozen = engine.start_worker(fault=f"SIGSTOP after {INSERT.format('stream')}")
    (first,) = engine.enqueue("work", args=[0])
    frozen.wait_until(lambda: is_stopped(frozen.pid), what="the worker to freeze")
    other = engine.site.start_worker()
    same_owner = engine.enqueue("work", 3, args=[0])
    engine.wait_until_started(same_owner)
    others = engine.enqueue("work", 3, args=[0], user="other")
    engine.wait_until_all_done([first, *same_owner, *others])
    assert {effect.pid for effect in engine.effects("done", jobs={*same_owner, *others})} == {other.pid}
    frozen.popen.send_signal(signal.SIGCONT)
    frozen.wait_for_line("is void")
    other.stop()
    engine.wait_until_all_done(engine.enqueue("work", 3, args=[0]))
    engine.wait_until_done()
    engine.assert_invariants()
