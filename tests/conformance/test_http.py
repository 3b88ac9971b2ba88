"""The vectors of docs/reference/protocol/http.json, run against real servers."""

import pytest

from tests.conformance import vectors
from tests.conformance.http_runner import HttpRun
from tests.conformance.runner import run_all

pytestmark = pytest.mark.nightly_names("*[uvicorn]")

VECTORS = vectors.load_for_servers("http.json")


@pytest.mark.timeout(180)
async def test_http_vectors(served):
    """Each response and event matches the pattern of its vector."""
    failures = await run_all(served, VECTORS, HttpRun)
    assert not failures, failures
