"""The server vectors of docs/reference/protocol, run against real servers."""

import pytest

from tests.conformance import vectors
from tests.conformance.runner import Run, run_all

VECTORS = vectors.of_a_server("server.json")
HASTE = 5


@pytest.mark.timeout(180)
async def test_server_vectors(served):
    """Every frame, key by key, is what the vectors say."""
    wrong = await run_all(served, VECTORS, Run)
    assert not wrong, wrong
