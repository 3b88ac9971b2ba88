"""The server vectors of docs/protocol, run against real servers."""

import asyncio
import os

import pytest

from tests.conformance import vectors
from tests.conformance.runner import Run

#: Those that take the protocol's 25 s are run by `make faults`.
SLOW = os.environ.get("CONFORMANCE_SLOW", "") not in ("", "0")
VECTORS = [vector for vector in vectors.load("server.json")["vectors"] if SLOW or not vector.get("slow")]
#: These change something for all users, so they are run one after the other, and after the rest.
FOR_ALL = {"prune", "restore"}
AT_ONCE = 12
HASTE = 5


def is_for_all(vector):
    return any(step.get("do") in FOR_ALL for step in vector["steps"])


@pytest.mark.timeout(180)
async def test_server_vectors(served):
    """Every frame, key by key, is what the vectors say. One server for all, because to start one takes seconds."""
    people = await served.call("people", count=2 * len(VECTORS), sessions=2)
    runs = {
        vector["name"]: (Run(served, people[2 * nth], people[2 * nth + 1]), vector)
        for nth, vector in enumerate(VECTORS)
    }
    wrong = []
    some = asyncio.Semaphore(AT_ONCE)

    async def run(name):
        mine, vector = runs[name]
        async with some:
            try:
                await mine.run(vector["steps"])
            except AssertionError as error:
                wrong.append(f"{name}: {error}")

    # Those that wait for seconds begin first.
    apart = sorted(
        (vector["name"] for vector in VECTORS if not is_for_all(vector)),
        key=lambda name: not any("within_s" in step or "silent_s" in step for step in runs[name][1]["steps"]),
    )
    await asyncio.gather(*map(run, apart))
    for vector in VECTORS:
        if is_for_all(vector):
            await run(vector["name"])
    assert not wrong, f"{len(wrong)} of {len(VECTORS)}\n" + "\n".join(wrong)
