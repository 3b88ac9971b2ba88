"""Real servers under test, each with a driver that executes actions of vectors in the site."""

import asyncio

import pytest

from tests.conformance.runner import Served
from tests.support.driver import driver
from tests.support.network import is_listening
from tests.support.site import SERVERS


@pytest.fixture(params=SERVERS)
async def served(request, site):
    """A server whose protocol timeouts (10 and 30 s) are divided by SPEEDUP of the test module."""
    pytest.importorskip(request.param)
    speedup = getattr(request.module, "SPEEDUP", 1)
    site.environment |= {"EMBEDDED_WORKER": "0", "CONFORMANCE_SPEEDUP": str(speedup)}
    web = site.launch_web(request.param, "tests.conformance.served:application")
    await asyncio.to_thread(web.wait_until, lambda: is_listening(site.port), what="the server to listen")
    with driver(site) as site_driver:
        served = Served(site.url, site_driver, speedup)
        yield served
        served.close()
