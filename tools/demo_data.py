"""Reports, notifications and figures for the pictures of tools/screenshots, which calls these functions in its site."""

import random
from datetime import timedelta

from django.contrib.auth import get_user_model
from django.utils import timezone

from asyncsite.models import Call, Report
from asyncsite.summary import compute_totals, describe_call, describe_passed, describe_problems
from notifications.api import notify
from notifications.contrib.operations.models import JobStatistics
from notifications.models import Notification

CHOICES = random.Random(7)
ERRORS = {"failed": "503 Service Unavailable", "refused": "The address 10.0.0.5 is not public."}


def create_reports():
    """Create the reports of the user demo, and notifications, one of which is about a report."""
    user = get_user_model().objects.get(username="demo")
    create_report(user, "Landing pages", 80, age=timedelta(days=2))
    create_report(user, "Webhooks", 25, age=timedelta(hours=6))
    create_notifications(user, create_report(user, "Partner APIs", 120, age=timedelta(minutes=5)))


def create_report(user, title, size, *, age):
    """Create a finished report whose calls had these outcomes, failures among them."""
    report = Report.objects.create(
        owner=user, title=title, urls=[], size=size, created_at=timezone.now() - age
    )
    calls = []
    for position in range(1, size + 1):
        outcome = "ok" if position % 13 else CHOICES.choice(["failed", "failed", "refused"])
        is_called = outcome != "refused"
        calls.append(
            Call(
                report=report,
                position=position,
                url=f"https://api.example/{CHOICES.randint(1000, 9999)}",
                outcome=outcome,
                status={"ok": 200, "failed": 503}.get(outcome),
                elapsed_ms=round(CHOICES.lognormvariate(4.8, 0.9)) if is_called else None,
                bytes=CHOICES.randint(400, 60_000) if is_called else None,
                content_type="application/json" if outcome == "ok" else "",
                error=ERRORS.get(outcome, ""),
            )
        )
    Call.objects.bulk_create(calls)
    return report


def create_notifications(user, report):
    url, totals = report.get_absolute_url(), compute_totals(report.calls.all())
    first = describe_call(report.calls.exclude(outcome="ok").first())
    problems = describe_problems(totals.failed, totals.refused, first)
    outcome = f"{describe_passed(totals.ok, report.size)}. {problems}"
    for age, title, fields in [
        (timedelta(hours=20), "Export of October finished", {"level": "success", "body": "12,400 rows"}),
        (timedelta(hours=3), "Disk of db-2 is 91 % full", {"level": "warning", "body": "Delete old exports."}),
        (timedelta(minutes=42), "Ada Lovelace requests access to Reports", {"category": "access", "actions": [
            {"label": "Approve", "post": "/access/7/approve/"}, {"label": "View request", "url": "/check/"}]}),
        (timedelta(minutes=12), "Invoices of November failed", {"level": "error", "body": "3 of 120 were rejected."}),
        (timedelta(minutes=4), "Partner APIs finished", {"level": "warning", "body": outcome}),
    ]:  # fmt: skip
        (created,) = notify(user, title, **{"url": url, **fields})
        Notification.objects.filter(pk=created).update(created_at=timezone.now() - age)


def create_statistics():
    """Create the figures of the last hour for the overview. The current minute has a part of its jobs."""
    now, elapsed = divmod(int(timezone.now().timestamp()), 60)
    rows = []
    for minute in range(60):
        part = 1 if minute else elapsed / 60
        for outcome, share in (("succeeded", part), ("failed", 0.02 * part)):
            count = round((40 + 25 * (minute % 20) / 20 + CHOICES.random() * 20) * share)
            rows.append(
                JobStatistics(
                    period=JobStatistics.Period.MINUTE,
                    shard=0,
                    start=60 * (now - minute),
                    queue_name="default",
                    task_path="asyncsite.tasks.check_urls",
                    outcome=outcome,
                    count=count,
                    enqueued=count,
                    wait_microseconds=count * 20_000,
                    run_microseconds=count * 900_000,
                    wait_4=count // 2,
                    wait_5=count - count // 2,
                    run_9=count // 3,
                    run_10=count - count // 3 - max(1, count // 20),
                    run_12=max(1, count // 20),
                )
            )
    JobStatistics.objects.bulk_create(rows)
