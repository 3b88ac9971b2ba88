"""The server vectors of docs/reference/protocol, run against real servers."""

import pytest

from tests.conformance import vectors
from tests.conformance.runner import Run, run_all

VECTORS = vectors.load_for_servers("server.json")
SPEEDUP = 5


@pytest.mark.nightly_names("*[uvicorn]")
@pytest.mark.timeout(180)
async def test_server_vectors(served):
    """Each frame matches the pattern of its vector."""
    failures = await run_all(served, VECTORS, Run)
    assert not failures, failures
