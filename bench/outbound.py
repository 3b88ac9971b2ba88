"""Compare outbound calls with bare aiohttp, httpx and niquests, with an API on loopback, in one run on one machine.

``python -m bench.outbound [--rounds 5] [--seconds 2] [--at-once 16,128,512] [--out FOLDER]``

This app's client is ``outbound.get`` with its defaults: guard, deadline, size limit, retries, circuits and
slots. Each client runs in a new process on asyncio's own event loop, keeps its connections, and reads a body of 34
bytes. They alternate in each round, for some seconds of their own CPU time, and a figure is the median of the rounds.
Requests are counted per second, and per second of CPU time, which other work on the machine disturbs less.
Needs ``bench/requirements.txt``.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections import defaultdict
from importlib.util import find_spec
from pathlib import Path

from bench.http_clients import CLIENTS
from bench.outbound_report import Figures, draw_chart, table


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=2.0, help="of CPU time, for each client and round")
    parser.add_argument("--at-once", default="16,128,512")
    parser.add_argument("--out", type=Path, help="a folder for outbound.json, outbound.md and outbound.svg")
    arguments = parser.parse_args()
    if missing := [name for name in ("httpx", "niquests") if find_spec(name) is None]:
        raise SystemExit(f"{', '.join(missing)}: not installed. pip install -r bench/requirements.txt")
    figures: Figures = defaultdict(list)
    with subprocess.Popen(
        [sys.executable, "-m", "bench.upstream"], stdout=subprocess.PIPE, text=True
    ) as upstream:
        try:
            assert upstream.stdout
            port = upstream.stdout.readline().strip()
            for _ in range(arguments.rounds):
                for at_once in map(int, arguments.at_once.split(",")):
                    for name in CLIENTS:
                        figures[name, at_once].append(measure(name, at_once, arguments.seconds, port))
        finally:
            upstream.kill()
    print(table(figures))
    if arguments.out:
        arguments.out.mkdir(parents=True, exist_ok=True)
        everything = [
            {"client": name, "at once": at_once, "rounds": of} for (name, at_once), of in figures.items()
        ]
        (arguments.out / "outbound.json").write_text(json.dumps(everything, indent=1))
        (arguments.out / "outbound.md").write_text(table(figures))
        (arguments.out / "outbound.svg").write_text(draw_chart(figures))


def measure(name: str, at_once: int, seconds: float, port: str) -> dict[str, float]:
    command = [sys.executable, "-m", "bench.http_clients", name, str(at_once), str(seconds), port]
    completed = subprocess.run(command, check=True, capture_output=True, text=True, timeout=300)
    found = json.loads(completed.stdout)
    figures = {
        key: found["requests"] / found[of] for key, of in (("a second", "seconds"), ("a CPU second", "cpu"))
    }
    print(
        f"{name}, {at_once} at once: " + ", ".join(f"{value:,.0f} {key}" for key, value in figures.items()),
        flush=True,
    )
    return figures


if __name__ == "__main__":
    main()
