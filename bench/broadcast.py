"""Send a broadcast to many users on SQLite while another process writes, and print how long its writes wait.

``python -m bench.broadcast [--users 100000] [--out result.json]``

The broadcast is sent from the composer of the admin, and withdrawn on its page afterwards; a worker process executes
both jobs. ``bench.writer`` writes a small transaction every 5 ms meanwhile. Prints the time of each job, and p50, p99
and the longest of the writer's waits in ms, first without a job.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

IDLE_SECONDS = 5
INSERT_BATCH = 5_000


class Writer:
    """A process of ``bench.writer``, which writes when this is made; its waits are those until ``stop()``."""

    def __init__(self) -> None:
        from django.contrib.auth import get_user_model

        self.process = subprocess.Popen(
            [sys.executable, "-m", "bench.writer"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert self.process.stdin
        users = get_user_model().objects
        while users.earliest("pk").last_name != "ready":
            time.sleep(0.05)
        self.process.stdin.write("\n")
        self.process.stdin.flush()

    def stop(self) -> dict[str, Any]:
        output, _ = self.process.communicate("\n")
        waits = sorted(json.loads(output))
        percentiles = statistics.quantiles(waits, n=100)
        return {
            "writes": len(waits),
            "p50_ms": round(percentiles[49], 1),
            "p99_ms": round(percentiles[98], 1),
            "longest_ms": round(waits[-1], 1),
        }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--users", type=int, default=100_000)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="bench-broadcast-") as folder:
        os.environ |= {
            "DATABASE_URL": f"sqlite:///{folder}/site.sqlite3",
            "DJANGO_SETTINGS_MODULE": "bench.settings",
            "DEBUG": "1",
            "SECRET_KEY": "bench",
            "EMBEDDED_WORKER": "0",
        }
        import django

        django.setup()
        results = measure(options.users)
    text = json.dumps(results, indent=2)
    print(text)
    if options.out:
        options.out.write_text(text)


def measure(users: int) -> dict[str, Any]:
    from django.core.management import call_command
    from django.test import Client

    call_command("migrate", verbosity=0)
    client = Client(headers={"host": "localhost"})
    client.force_login(make_users(users))
    results: dict[str, Any] = {"users": users}
    worker = subprocess.Popen([sys.executable, "manage.py", "run_jobs"], stderr=subprocess.DEVNULL)
    try:
        writer = Writer()
        time.sleep(IDLE_SECONDS)
        results["without a job"] = writer.stop()
        form = {"title": "Maintenance at 22:00", "level": "info", "audience_kind": "everybody", "_send": "1"}
        page = "/admin/notifications_broadcasts/broadcast/add/"
        results["sending"], page = run(client, page, form)
        results["withdrawing"], _ = run(client, page.replace("change", "withdraw"), {})
    finally:
        worker.terminate()
        worker.wait()
    return results


def make_users(count: int) -> Any:
    from django.contrib.auth import get_user_model

    model = get_user_model()
    model.objects.bulk_create(
        [model(username=f"user{number}") for number in range(count - 1)], batch_size=INSERT_BATCH
    )
    return model.objects.create_superuser("staff")


def run(client: Any, page: str, form: dict[str, str]) -> tuple[dict[str, Any], str]:
    """Send a form that begins a job; return what was measured until the job was done, and the broadcast's page."""
    from django.db import connection

    writer = Writer()
    started = time.monotonic()
    response = client.post(page, form)
    assert response.status_code == 302, response.content
    active = "SELECT count(*) FROM notifications_job WHERE state IN ('queued', 'running')"
    failed = "SELECT count(*) FROM notifications_job WHERE state NOT IN ('queued', 'running', 'succeeded')"
    with connection.cursor() as cursor:
        while cursor.execute(active).fetchone()[0]:
            time.sleep(0.2)
        assert not cursor.execute(failed).fetchone()[0]
    seconds = round(time.monotonic() - started, 1)
    return {"seconds": seconds, **writer.stop()}, response["Location"]


if __name__ == "__main__":
    main()
