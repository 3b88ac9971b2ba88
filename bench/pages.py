"""Measure the admin's pages and the inbox on a database that ``bench.seed`` has filled.

``DATABASE_URL=sqlite:////tmp/seed.sqlite3 python -m bench.pages [--rounds 11]``

Each page is opened by Django's test client, in this process, so a figure is the time of the view, its queries and its
template. It is the median, with the worst beside it, after two rounds that are not counted. Django's own list of users
is there to compare with. The pages are those of a superuser ``bench-pages``, who is created, and the inbox of a seeded
user.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from typing import Any

WARM_UP_ROUNDS = 2


def build_paths(user: Any) -> dict[str, str]:
    """Return the path of each measured page by its name; those of the inbox are to be opened by ``user``."""
    from django.apps import apps
    from django.urls import reverse

    jobs = reverse("admin:notifications_job_changelist")
    failed = (
        apps.get_model("notifications", "Job").objects.filter(state="failed").order_by("created_at").last()
    )
    if failed is None:
        raise SystemExit("The database has no failed job. Fill it with python -m bench.seed.")
    overview = reverse("admin:notifications_overview_changelist")
    notifications = reverse("admin:notifications_notification_changelist")
    return {
        "job list": jobs,
        "job list, failed": f"{jobs}?state__exact=failed",
        "job list, a task": f"{jobs}?task_path={failed.task_path}",
        "job list, a user": f"{jobs}?user={user.pk}",
        "a job": reverse("admin:notifications_job_change", args=[failed.pk]),
        "overview, hour": overview,
        "overview, day": f"{overview}?period=day",
        "overview, week": f"{overview}?period=week",
        "notification list": notifications,
        "notification list, a user": f"{notifications}?user={user.pk}",
        "inbox": reverse("notifications:inbox"),
        "list of Django's users": reverse("admin:auth_user_changelist"),
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=11)
    arguments = parser.parse_args()
    os.environ.setdefault("DEBUG", "1")
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "asyncsite.settings")
    import django

    django.setup()
    from django.apps import apps
    from django.conf import settings
    from django.contrib.auth import get_user_model
    from django.test import Client

    job, notification = (apps.get_model("notifications", name) for name in ("Job", "Notification"))
    settings.DEBUG = False
    settings.ALLOWED_HOSTS = ["testserver"]
    newest = notification.objects.filter(user__username__startswith="seed").order_by("created_at").last()
    if newest is None:
        raise SystemExit("The database has no notifications. Fill it with python -m bench.seed.")
    user = newest.user
    admin, _ = get_user_model().objects.get_or_create(
        username="bench-pages", defaults={"is_staff": True, "is_superuser": True}
    )
    clients = {name: Client() for name in ("admin", "user")}
    clients["admin"].force_login(admin)
    clients["user"].force_login(user)
    print(f"{job.objects.count():,} jobs, {notification.objects.count():,} notifications, ", end="")
    print(f"{notification.objects.filter(user=user).count():,} of them in the inbox")
    for name, path in build_paths(user).items():
        client = clients["user" if name == "inbox" else "admin"]
        times = [measure_milliseconds(client, path) for _ in range(WARM_UP_ROUNDS + arguments.rounds)][
            WARM_UP_ROUNDS:
        ]
        print(f"{name:28}{statistics.median(times):8.1f} ms (worst {max(times):.1f})", flush=True)


def measure_milliseconds(client: Any, path: str) -> float:
    started = time.perf_counter()
    response = client.get(path)
    elapsed = time.perf_counter() - started
    if response.status_code != 200:
        raise SystemExit(f"{path} answered {response.status_code}.")
    return elapsed * 1000


if __name__ == "__main__":
    main()
