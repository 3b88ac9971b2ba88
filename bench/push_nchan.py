"""Compare the cost of a push with Nchan, a publisher written in C for nginx, alternating on one machine.

``python -m bench.push_nchan [--rounds 3] [--sockets 1000,5000] [--servers uvicorn,daphne]``

One user has all sockets and each message goes to all of them, as in the ``crowd`` of ``bench.push``. CPU is that of the
server process for each delivered message. Nchan has no database, no users and no replay by position: it is a lower
bound for the cost of a push. It needs nginx with the module (Debian: libnginx-mod-nchan).
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections import defaultdict
from pathlib import Path
from typing import Any

from bench.clients import Clients
from bench.latency import free_port
from bench.push import machine, run_in_process
from bench.push_round import DELIVERIES, Measure, one_round
from bench.serving import Server

MODULE = Path("/usr/lib/nginx/modules/ngx_nchan_module.so")
#: As long as the frame of a notification.
FILLER = "x" * 420
CONFIG = """
load_module {module};
daemon off;
master_process off;
pid {folder}/pid;
error_log stderr error;
events {{ worker_connections 20000; }}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    server {{
        listen 127.0.0.1:{port} backlog=2048;
        location = /setup/ {{ return 200 '{{"queries": {{}}}}'; }}
        location = /send/nchan {{ nchan_publisher; nchan_channel_id bench; }}
        location = /ws/nchan/ {{
            nchan_subscriber websocket;
            nchan_channel_id bench;
            nchan_subscriber_first_message newest;
        }}
    }}
}}
"""


class Nchan(Server):
    """nginx with Nchan in one process."""

    def __init__(self, core: int | None) -> None:
        program = shutil.which("nginx")
        if program is None or not MODULE.exists():
            raise SystemExit("nginx with Nchan is not installed: apt-get install libnginx-mod-nchan")
        self.port = free_port()
        self._folder = Path(tempfile.mkdtemp(prefix="bench-nchan-"))
        config = self._folder / "nginx.conf"
        config.write_text(CONFIG.format(module=MODULE, folder=self._folder, port=self.port))
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115  (closed with the server)
        self._process = subprocess.Popen([program, "-c", str(config)], stderr=self._errors)
        if core is not None:
            os.sched_setaffinity(self._process.pid, {core})

    def __exit__(self, *exc: object) -> None:
        super().__exit__(*exc)
        shutil.rmtree(self._folder)

    def get(self, path: str, within: float = 120.0) -> Any:
        url = f"http://127.0.0.1:{self.port}/{path}"
        if not path.startswith("send/"):
            return super().get(path, within)
        item = {"title": str(time.time()), "body": "12,400 rows", "url": "/exports/7/", "filler": FILLER}
        with urllib.request.urlopen(url, json.dumps(item).encode(), within) as response:
            return response.read()


def nchan_round(crowd: int) -> dict[str, float]:
    """Return the figures of a crowd of that many sockets."""
    cores = sorted(os.sched_getaffinity(0))
    clients = Clients(cores[1] if len(cores) > 1 else None)
    try:
        with Nchan(cores[0] if len(cores) > 1 else None) as running:
            found = Measure(running, clients, "nchan").crowd(crowd, [(0, "")])
            clients.stop()
            return found[f"crowd {crowd}"]
    finally:
        clients.stop()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--sockets", default="1000,5000")
    parser.add_argument("--servers", default="uvicorn,daphne")
    arguments = parser.parse_args()
    crowds = [int(size) for size in arguments.sockets.split(",")]
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))
    found: dict[tuple[int, str], list[dict[str, float]]] = defaultdict(list)
    for number in range(arguments.rounds):
        for crowd in crowds:
            for server in [*arguments.servers.split(","), "nchan"]:
                if server == "nchan":
                    figures = run_in_process(nchan_round, crowd)
                else:
                    figures = run_in_process(one_round, server, "", "app", crowd)[1][f"crowd {crowd}"]
                found[crowd, server].append(figures)
                print(f"round {number + 1}: {crowd} {server} {figures['CPU us']:.1f} us", file=sys.stderr)
    print(machine(), f"Medians (worst) of {arguments.rounds}, about {DELIVERIES} deliveries each.", sep="\n")
    print("\n| sockets | server | CPU us | times Nchan | p50 ms | p99 ms |\n|---|---|---|---|---|---|")
    for (crowd, server), rounds in found.items():
        least = statistics.median(one["CPU us"] for one in found[crowd, "nchan"])
        times = statistics.median(one["CPU us"] for one in rounds) / least
        cells = [
            f"{statistics.median(values):.1f} ({max(values):.1f})"
            for values in ([one[name] for one in rounds] for name in ("CPU us", "p50 ms", "p99 ms"))
        ]
        print(f"| {crowd} | {server} | {cells[0]} | {times:.1f} | {cells[1]} | {cells[2]} |")


if __name__ == "__main__":
    main()
