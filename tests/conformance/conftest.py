"""Real servers under test, each with a driver beside it."""

import asyncio

import pytest

from tests.conformance.runner import Served
from tests.support.driver import driver
from tests.support.network import listens

SERVERS = {
    "daphne": ("-b", "127.0.0.1", "-p", "{port}"),
    "uvicorn": ("--host", "127.0.0.1", "--port", "{port}"),
}


@pytest.fixture(params=SERVERS)
async def served(request, site):
    """A server with this module's HASTE: the waits of the protocol, 10 and 30 s, are so many times as short."""
    pytest.importorskip(request.param)
    haste = getattr(request.module, "HASTE", 1)
    site.environment |= {"EMBEDDED_WORKER": "0", "CONFORMANCE_HASTE": str(haste)}
    where = [part.format(port=site.port) for part in SERVERS[request.param]]
    web = site.start("web", "-m", request.param, *where, "tests.conformance.served:application")
    await asyncio.to_thread(web.wait_until, lambda: listens(site.port), what="the server to listen")
    with driver(site) as beside:
        served = Served(site.url, beside, haste)
        yield served
        served.close()
