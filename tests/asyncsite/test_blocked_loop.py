"""The commands serve and work have no supervisor: a process whose event loop is blocked starts itself again."""

import pytest

from tests.support.blocked_loop import request_block, set_up_production

pytestmark = pytest.mark.nightly

ENQUEUE = """
from tests.support.blocked_loop import block_worker
block_worker.enqueue({marker!r})
"""


def assert_has_restarted(process, line):
    """Wait until a process that prints `line` when it starts has started twice, with the stacks in between."""
    process.wait_until(lambda: process.output.count(line) == 2, what=f"{line!r} a second time")
    before, _, after = process.output.partition("The event loop has not run for")
    assert line in before and line in after
    assert "in block_once" in after.partition(line)[0]


@pytest.mark.parametrize("server", ["daphne", "uvicorn"])
def test_serve(site, server):
    """It serves again, at the same port."""
    set_up_production(site)
    site.environment["SERVER"] = server
    process = site.start("serve", "manage.py", "serve")
    process.wait_for_line("Press Ctrl-C to stop.")
    marker = site.folder / "marker"
    with pytest.raises(ConnectionError):
        request_block(site, marker)
    assert_has_restarted(process, "Press Ctrl-C to stop.")
    assert request_block(site, marker) == 200
    assert process.stop() == 0


def test_work(site):
    """It executes jobs again."""
    set_up_production(site)
    process = site.start("work", "manage.py", "work")
    process.wait_for_line("Ctrl-C ends it.")
    enqueue = ENQUEUE.format(marker=str(site.folder / "marker"))
    site.python(enqueue)
    assert_has_restarted(process, "Ctrl-C ends it.")
    site.python(enqueue)
    newest = "SELECT state FROM notifications_job ORDER BY id DESC LIMIT 1"
    process.wait_until(lambda: site.rows(newest) == [("succeeded",)], what="the second job to succeed")
    assert process.stop() == 0
