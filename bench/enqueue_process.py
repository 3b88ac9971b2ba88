"""Enqueue jobs in one queue, in a separate process, as the web processes of a site do.

``python -m bench.enqueue_process MODULE``: lines like ``["enqueue", 100]`` on standard input call functions of the
module; each response is a line with the return value, the seconds and the CPU seconds. Every module has ``prepare()``,
``enqueue(n)``, ``enqueue_in_bulk(n)``, ``enqueue_pickup(port)`` and ``counts()``; some have ``enqueue_seconds(n)``,
``fill(n)``, and ``enqueue_for(owner)``, which returns the id of the job.
"""

from __future__ import annotations

import json
import os
import sys
import time
from importlib import import_module
from typing import Any

from bench import frames
from bench.pickups import measure


def main() -> None:
    if "DJANGO_SETTINGS_MODULE" in os.environ:
        import django

        django.setup()
    module = import_module(sys.argv[1])
    responses, sys.stdout = sys.stdout, sys.stderr
    for line in sys.stdin:
        name, *args = json.loads(line)
        start, cpu = time.perf_counter(), time.process_time()
        value = call(module, name, args)
        elapsed = time.perf_counter() - start, time.process_time() - cpu
        print(json.dumps([value, *elapsed]), file=responses, flush=True)


def call(module: Any, name: str, args: list[Any]) -> Any:
    if name == "pickups":
        return measure(module.enqueue_pickup, *args)
    if name == "frames":
        return frames.measure(module.enqueue_for, *args)
    return getattr(module, name)(*args)


if __name__ == "__main__":
    main()
