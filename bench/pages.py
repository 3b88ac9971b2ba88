"""Measure the admin's pages and the inbox on a database that ``bench.seed`` has filled.

``DATABASE_URL=sqlite:////tmp/seed.sqlite3 python -m bench.pages [--rounds 11]``

Each page is opened by Django's test client, in this process, so a figure is the time of the view, its queries and its
template. It is the median, with the worst beside it, after two rounds that are not counted. Django's own list of users
is there to compare with. The pages are those of a superuser ``bench-pages``, who is created, and the inbox and the API
of a seeded user. "heavy" is the first seeded user, whose share of all rows ``bench.seed --heavy-share`` sets.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from datetime import timedelta
from typing import Any

WARM_UP_ROUNDS = 2
#: Pages that are opened as a seeded user, not as staff.
USER_PAGES = ("inbox", "API, jobs")
#: Format of the filters by time.
MINUTE = "%Y-%m-%dT%H:%M"


def build_paths(user: Any) -> dict[str, str]:
    """Return the path of each measured page by its name; those of ``USER_PAGES`` are to be opened by ``user``."""
    from django.apps import apps
    from django.contrib.auth import get_user_model
    from django.urls import reverse
    from django.utils import timezone

    jobs = reverse("admin:notifications_job_changelist")
    heavy = get_user_model().objects.filter(username__startswith="seed").order_by("pk").first()
    failed_jobs = apps.get_model("notifications", "Job").objects.filter(state="failed")
    failed, of_heavy = (
        rows.order_by("created_at").last() for rows in (failed_jobs, failed_jobs.filter(user=heavy))
    )
    if failed is None or of_heavy is None:
        raise SystemExit("The database has no failed job. Fill it with python -m bench.seed.")
    overview = reverse("admin:notifications_operations_overview_changelist")
    notifications = reverse("admin:notifications_notification_changelist")
    now = timezone.now()
    return {
        "job list": jobs,
        "job list, failed": f"{jobs}?state__exact=failed",
        "job list, a task": f"{jobs}?task_path={failed.task_path}",
        "job list, a user": f"{jobs}?user={user.pk}",
        "job list, heavy user": f"{jobs}?user={heavy.pk}",
        "job list, no such error": f"{jobs}?error=shop.tasks.send_receipt+no.SuchError",
        "job list, no hit": f"{jobs}?q=nothing",
        "a job": reverse("admin:notifications_job_change", args=[failed.pk]),
        "a job of the heavy user": reverse("admin:notifications_job_change", args=[of_heavy.pk]),
        "overview, hour": overview,
        "overview, day": f"{overview}?period=day",
        "overview, week": f"{overview}?period=week",
        "notification list": notifications,
        "notification list, a user": f"{notifications}?user={user.pk}",
        "notification list, heavy user": f"{notifications}?user={heavy.pk}",
        "notification list, a week": f"{notifications}?created=week",
        "notification list, a time": f"{notifications}?created_from={now - timedelta(days=9):{MINUTE}}"
        f"&created_until={now - timedelta(days=8):{MINUTE}}",
        "notification list, no hit": f"{notifications}?created_from=2001-01-01T00:00&created_until=2001-02-01T00:00",
        "notification list, no hit 2": f"{notifications}?created=week&category=nothing",
        "inbox": reverse("notifications:inbox"),
        "API, jobs": reverse("notifications:api-jobs"),
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
    newest = notification.objects.filter(user__username__startswith="seed").order_by("id").last()
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
        client = clients["user" if name in USER_PAGES else "admin"]
        times = [measure_milliseconds(client, path) for _ in range(WARM_UP_ROUNDS + arguments.rounds)][
            WARM_UP_ROUNDS:
        ]
        print(f"{name:32}{statistics.median(times):8.1f} ms (worst {max(times):.1f})", flush=True)


def measure_milliseconds(client: Any, path: str) -> float:
    started = time.perf_counter()
    response = client.get(path)
    elapsed = time.perf_counter() - started
    if response.status_code != 200:
        raise SystemExit(f"{path} answered {response.status_code}.")
    return elapsed * 1000


if __name__ == "__main__":
    main()
