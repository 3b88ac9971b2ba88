"""A server whose event loop is blocked ends, so that its supervisor starts another one."""

import pytest

from tests.support.blocked_loop import request_block, set_up_production
from tests.support.network import is_listening

pytest.importorskip("uvicorn")


def test_a_blocked_server_ends(site):
    """The log has the stacks, and the exit code is the one that docs/how-to/servers.md states."""
    set_up_production(site)
    web = site.start("web", "-m", "uvicorn", "--port", site.port, "asyncsite.asgi:application")
    web.wait_until(lambda: is_listening(site.port), what="the server to listen")
    with pytest.raises(ConnectionError):
        request_block(site, site.folder / "marker")
    assert web.popen.wait(60) == 70
    _, _, stacks = web.output.partition("The event loop has not run for")
    assert "Thread MainThread" in stacks and "in block_once" in stacks
