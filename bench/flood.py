"""Measure how long a single job of one owner waits beside the flood of others.

``python -m bench.flood [--jobs 1000] [--floods 1] [--singles 50] [--base REVISION] [--queues WORD …]``

So many jobs of 50 ms are enqueued by as many other owners as there are floods, for four jobs at a time. Beside them
single jobs report their starts, one after the other. ``--base`` measures the tree of a revision too, and so what claims
by age did; alternatives claim by age. Printed are the median, the p99 and the worst of the waits in ms. Alternatives
that are not installed are skipped; a single job that does not begin within 30 s ends the measurement of its queue.
"""

from __future__ import annotations

import argparse
import contextlib
import shutil
import statistics
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from bench.guard import checked_out
from bench.measured_queue import Queue
from bench.queues import Places, queues

SLOTS = 4


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--jobs", type=int, default=1_000)
    parser.add_argument("--floods", type=int, default=1)
    parser.add_argument("--singles", type=int, default=50)
    parser.add_argument("--base", help="a revision of git, which is measured beside this tree")
    parser.add_argument("--queues", nargs="*", default=[], help="only those whose names contain one of these")
    arguments = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="bench-flood-"))
    folder.chmod(0o755)
    places = Places(folder)
    try:
        with contextlib.ExitStack() as stack:
            base = stack.enter_context(checked_out(arguments.base)) if arguments.base else None
            for queue in chosen(places, base, arguments.queues):
                waits = measure(queue, arguments.jobs, arguments.floods, arguments.singles)
                print(f"{queue.name:45} {describe(waits)}", flush=True)
    finally:
        places.end()
        shutil.rmtree(folder, ignore_errors=True)


def chosen(places: Places, base: Path | None, words: list[str]) -> Iterator[Queue]:
    for queue in queues(places):
        if "embedded" in queue.name or (words and not any(word in queue.name for word in words)):
            continue
        yield queue
        if base and queue.name.startswith("this app"):
            url = places.sqlite() if "SQLite" in queue.name else places.postgres()
            environment = queue.environment | {"DATABASE_URL": url}
            yield replace(
                queue, name=f"{queue.name}, {base.name} (base)", folder=base, environment=environment
            )


def measure(queue: Queue, jobs: int, floods: int, singles: int) -> list[float]:
    """Return the waits of single jobs in ms; those that began within 30 s."""
    queue.call("prepare")
    is_one_by_one = not queue.name.startswith(("this app", "Procrastinate"))
    try:
        with queue.working(SLOTS if is_one_by_one else 1, SLOTS):
            queue.call("pickups", 1)  # the workers have started
            queue.call("enqueue_flood", jobs, floods)
            return list(queue.call("pickups", singles).value)
    except RuntimeError as exc:
        if "timed out" not in str(exc):
            raise
        return []
    finally:
        queue.end()


def describe(waits: list[float]) -> str:
    if not waits:
        return "no single job began within 30 s"
    p99 = sorted(waits)[max(0, round(len(waits) * 0.99) - 1)]
    return f"{statistics.median(waits):9.1f} {p99:9.1f} {max(waits):9.1f}"


if __name__ == "__main__":
    main()
