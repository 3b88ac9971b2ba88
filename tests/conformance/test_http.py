"""The vectors of the HTTP side, docs/reference/protocol/http.json, run against real servers."""

import pytest

from tests.conformance import vectors
from tests.conformance.asking import Asking
from tests.conformance.runner import run_all

VECTORS = vectors.of_a_server("http.json")


@pytest.mark.timeout(180)
async def test_http_vectors(served):
    """Every answer and every event is what the vectors say."""
    wrong = await run_all(served, VECTORS, Asking)
    assert not wrong, wrong
