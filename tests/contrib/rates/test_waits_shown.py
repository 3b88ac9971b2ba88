"""Jobs that wait for a limit are counted wherever it is said how many wait, and why each of them does."""

import json
import re
from collections import Counter
from datetime import timedelta

import pytest
from django.core.management import call_command
from django.urls import reverse
from django.utils import timezone

from notifications.contrib.operations.models import Alert, AlertState
from notifications.models import Job
from tests.contrib.rates import rated_tasks
from tests.jobs import tasks
from tests.support.checks import doctor
from tests.support.duties import run_duty
from tests.support.waiting import wait_until

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.with_all_apps("alerts, metrics and the overview are those of operations"),
]

TOKEN = "a-token-of-24-characters"


def run_one():
    """Run a worker until it is idle. Return whether the one job has run that the rate allows."""
    call_command("run_jobs", "--until-idle")
    return Job.objects.filter(state="succeeded").exists()


@pytest.fixture
def counts(declare, settings, capsys):
    """How many jobs wait for each reason: nearly all for a rate that is used up, and some are scheduled."""
    declare(partner={"rate": "1/h", "burst": 1})
    settings.NOTIFICATIONS = {**settings.NOTIFICATIONS, "METRICS_TOKEN": TOKEN}
    for _ in range(78):
        rated_tasks.fetch.enqueue()
    for _ in range(3):
        tasks.noop.using(run_after=timezone.now() + timedelta(hours=1)).enqueue()
    wait_until(run_one, what="the first of them to run")
    capsys.readouterr()
    call_command("notifications", "jobs", "list", "--state", "queued", "--limit", "100", "--json")
    counts = Counter(json.loads(line)["waits"] for line in capsys.readouterr().out.splitlines())
    assert counts == {"limited": 77, "scheduled": 3}
    return counts


@pytest.fixture
def says(counts):
    """says(text) is true if it says how many jobs wait, how many of them for a limit, and how many are scheduled."""
    words = f"{counts.total()} jobs waiting, {counts['limited']} for a limit, 3 scheduled"
    return lambda text: words in " ".join(text.split())


def test_commands(counts, says, capsys):
    call_command("run_jobs", "--until-idle")
    assert says(capsys.readouterr().out)
    assert says(doctor("workers")[0]["message"])
    assert says(doctor("ready", live=True)[0]["message"])
    call_command("notifications", "jobs", "list", "--state", "queued", "--limit", "100")
    text = capsys.readouterr().out
    assert text.count("waiting for the limit of partner") == counts["limited"]
    assert text.count("not before") == 3
    call_command("notifications", "jobs", "list", "--state", "queued", "--limit", "100", "--json")
    listed = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    limited = next(item["id"] for item in listed if item["waits"] == "limited")
    call_command("notifications", "jobs", "show", limited)
    assert "Waits:        waiting for the limit of partner" in capsys.readouterr().out
    call_command("notifications", "jobs", "show", limited, "--json")
    assert json.loads(capsys.readouterr().out)["waits"] == "limited"


def test_alerts(counts, settings):
    settings.NOTIFICATIONS = {**settings.NOTIFICATIONS, "ALERTS": {}}
    hour_ago = timezone.now() - timedelta(hours=1)
    AlertState.objects.update_or_create(id=1, defaults={"no_worker_since": hour_ago})
    old = tasks.noop.enqueue()
    Job.objects.filter(pk=old.id).update(queued_at=hour_ago)
    run_duty("evaluate alerts")
    details = {alert.kind: alert.detail for alert in Alert.objects.all()}
    words = f"1 for a worker, {counts['limited']} for a limit, 3 scheduled."
    assert details["no_worker"].endswith(f" {counts.total() + 1} jobs waiting, {words}")
    assert details["wait"].endswith(f" The limit is 5 min. In the queue: {words}")


def test_metrics(counts, client):
    page = client.get("/notifications/metrics/", headers={"Authorization": f"Bearer {TOKEN}"})
    found = dict(re.findall(r'^notifications_jobs_(\w+)\{queue="default"\} ([\d.]+)$', page.text, re.M))
    names = {"due": "in_turn", "unserved": "no_worker", "limited": "limited", "delayed": "scheduled"}
    assert {name: float(found[name]) for name in names} == {
        name: counts[reason] for name, reason in names.items()
    }


def test_pages(counts, admin_client):
    page = admin_client.get(reverse("admin:notifications_operations_overview_figures"))
    assert page.context["figures"].queued == counts.total()
    assert f"<small>{counts['limited']} for a limit, 3 scheduled</small>" in page.text
    assert f'<span class="quiet">{counts["limited"]} for a limit</span>' in page.text
    page = admin_client.get(reverse("admin:notifications_job_changelist"), {"state__exact": "queued"})
    assert page.text.count("Queued, not before") == 3
    assert page.text.count("Queued, waiting for a limit") == len(page.context["cl"].result_list) - 3
    job = Job.objects.filter(state="queued", task_path=rated_tasks.fetch.module_path).last()
    page = admin_client.get(reverse("admin:notifications_job_change", args=[job.pk]))
    assert "Queued, waiting for a limit" in page.text
