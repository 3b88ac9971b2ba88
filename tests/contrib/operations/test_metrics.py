"""Metrics for Prometheus: their names, their numbers, and who may read them."""

import re
import sys
from datetime import timedelta

import pytest
from django.contrib.auth.models import Permission
from django.core.management import call_command
from django.db import connection
from django.db.models import F
from django.utils import timezone
from prometheus_client import CollectorRegistry
from prometheus_client.openmetrics import parser as openmetrics_parser
from prometheus_client.parser import text_string_to_metric_families

from notifications.contrib.operations.metrics import JobCollector
from notifications.contrib.operations.models import Alert, JobStatistics, alert_kinds
from notifications.contrib.questions.testing import answer_question
from notifications.models import Job, ServerProcess, Wait, Worker
from notifications.testing import run_jobs
from tests.contrib.questions import question_tasks
from tests.docs.pages import DOCS
from tests.jobs import tasks
from tests.support.claims import claim_rows
from tests.support.duties import run_duty

pytestmark = [pytest.mark.django_db, pytest.mark.nightly_on_old_django]

URL = "/notifications/metrics/"
TOKEN = "a-token-of-24-characters"


@pytest.fixture(autouse=True)
def token(settings):
    settings.NOTIFICATIONS = {**settings.NOTIFICATIONS, "METRICS_TOKEN": TOKEN}


def read(client, **headers):
    response = client.get(URL, headers={"Authorization": f"Bearer {TOKEN}", **headers})
    assert response.status_code == 200, response.content
    return response


def samples(client):
    """Return the value of each sample by its name and labels, as a client of Prometheus parses them."""
    found = {}
    for family in text_string_to_metric_families(read(client).content.decode()):
        for sample in family.samples:
            key = (sample.name, *(f"{name}={value}" for name, value in sorted(sample.labels.items())))
            assert key not in found
            found[key] = sample.value
    return found


def make_worker(lease=60):
    now = timezone.now()
    until = now + timedelta(seconds=lease)
    return Worker.objects.create(
        started_at=now, lease_until=until, concurrency=10, load=3, host="", process=""
    )


def test_metrics_of_jobs(client):
    """Ends, times, queues and workers."""
    worker = make_worker()
    make_worker(lease=-1)
    for _ in range(3):
        tasks.noop.enqueue()
    tasks.fail.enqueue()
    run_jobs()
    tasks.of_reports.enqueue()
    tasks.of_reports.using(run_after=timezone.now() + timedelta(hours=1)).enqueue()
    tasks.noop.enqueue()
    claim_rows(worker.id, 1, queues=["default"])
    found = samples(client)
    noop = ("queue=default", "task=tests.jobs.tasks.noop")
    assert found["notifications_jobs_total", "outcome=succeeded", *noop] == 3
    assert (
        found["notifications_jobs_total", "outcome=failed", "queue=default", "task=tests.jobs.tasks.fail"]
        == 1
    )
    for name in ("wait", "run"):
        assert found[f"notifications_job_{name}_seconds_count", *noop] == 3
        assert found[f"notifications_job_{name}_seconds_bucket", "le=+Inf", *noop] == 3
        assert found[f"notifications_job_{name}_seconds_sum", *noop] > 0
    assert found["notifications_jobs_due", "queue=reports"] == 1
    assert found["notifications_jobs_delayed", "queue=reports"] == 1
    assert found["notifications_job_oldest_wait_seconds", "queue=reports"] >= 0
    assert found["notifications_queue_paused", "queue=reports"] == 0
    assert found["notifications_jobs_running", "queue=default"] == 1
    assert found["notifications_workers",] == 1
    assert (found["notifications_worker_slots",], found["notifications_worker_slots_busy",]) == (10, 3)


@pytest.mark.with_all_apps("the questions are those of another app")
def test_open_questions(client, user):
    found = samples(client)
    assert (found["notifications_questions_open",], found["notifications_question_oldest_seconds",]) == (0, 0)
    question_tasks.ask_sync.using(owner=user).enqueue()
    run_jobs()
    Wait.objects.update(created_at=timezone.now() - timedelta(hours=1))
    found = samples(client)
    assert found["notifications_questions_open",] == found["notifications_jobs_waiting", "queue=default"] == 1
    assert 3_600 <= found["notifications_question_oldest_seconds",] < 3_700
    answer_question("yes", by=user)
    assert samples(client)["notifications_questions_open",] == 0


def test_servers_and_alerts(client):
    """Sockets of live servers, and open alerts by kind."""
    now = timezone.now()
    for lease, sockets in ((60, 3), (60, 4), (-60, 100)):
        until = now + timedelta(seconds=lease)
        ServerProcess.objects.create(host="web", pid=1, started_at=now, lease_until=until, sockets=sockets)
    for kind, subject, fields in (
        ("wait", "mail", {}),
        ("wait", "default", {"acknowledged_at": now}),
        ("lease", "", {"closed_at": now}),
    ):
        Alert.objects.create(kind=kind, subject=subject, opened_at=now, seen_at=now, **fields)
    make_worker()
    Worker.objects.update(request="quiet")
    found = samples(client)
    assert (found["notifications_servers",], found["notifications_sockets",]) == (2, 7)
    assert found["notifications_workers_quiet",] == 1
    alerts = {key[1:]: value for key, value in found.items() if key[0] == "notifications_alerts_open"}
    assert {key for key, value in alerts.items() if value} == {
        ("acknowledged=no", "kind=wait"),
        ("acknowledged=yes", "kind=wait"),
    }
    assert len(alerts) == 2 * len(alert_kinds())


def test_buckets_only_grow(client):
    """The buckets of a histogram are cumulative and in order, as Prometheus requires."""
    tasks.noop.enqueue()
    run_jobs()
    families = {
        family.name: family for family in text_string_to_metric_families(read(client).content.decode())
    }
    buckets = [
        (float(sample.labels["le"]), sample.value)
        for sample in families["notifications_job_run_seconds"].samples
        if sample.name.endswith("_bucket")
    ]
    assert len(buckets) == 15
    assert buckets == sorted(buckets)
    assert [value for _, value in buckets] == sorted(value for _, value in buckets)
    assert buckets[-1] == (float("inf"), 1)


def test_counters_outlast_jobs_and_roll_ups(client, set_bounds):
    """No counter falls when statistics are rolled up and deleted, jobs are pruned, or workers are lost."""

    def counters():
        return {
            key: value
            for key, value in samples(client).items()
            if key[0].endswith(("_total", "_count", "_sum", "_bucket"))
        }

    set_bounds(delays=0)
    before = {}
    for step in ("run", "roll up", "prune", "lose a worker", "run", "roll up", "delete"):
        if step == "run":
            tasks.noop.enqueue()
            tasks.fail.enqueue()
            run_jobs()
        elif step == "roll up":
            run_duty("roll up statistics")
        elif step == "prune":
            call_command("notifications", "prune", days=0)
            assert not Job.objects.exists()
        elif step == "delete":
            JobStatistics.objects.exclude(period=JobStatistics.Period.ALL_TIME).update(
                start=F("start") - 800 * 86_400
            )
            run_duty("roll up statistics")
        else:
            tasks.busy.enqueue(0)
            worker = make_worker()
            claim_rows(worker.id, 1)
            Worker.objects.update(lease_until=timezone.now() - timedelta(hours=1))
            run_duty("take jobs from lost workers")
        now = counters()
        assert before.items() <= {key: min(now[key], value) for key, value in before.items()}.items(), step
        before = now
    noop = ("queue=default", "task=tests.jobs.tasks.noop")
    assert before["notifications_jobs_total", "outcome=succeeded", *noop] == 2
    assert (
        before[
            "notifications_job_attempts_total", "outcome=lost", "queue=default", "task=tests.jobs.tasks.busy"
        ]
        == 1
    )


def test_openmetrics(client):
    """The format that Prometheus asks for by its Accept header."""
    tasks.noop.enqueue()
    run_jobs()
    response = read(client, Accept="application/openmetrics-text; version=1.0.0,text/plain;q=0.5")
    assert response["Content-Type"].startswith("application/openmetrics-text")
    families = list(openmetrics_parser.text_string_to_metric_families(response.content.decode()))
    assert "notifications_jobs" in {family.name for family in families}


@pytest.mark.with_all_apps("each app adds the queries of its metrics")
def test_number_of_queries_of_a_response(client, django_assert_num_queries):
    """However many rows there are. On PostgreSQL three of them ask for its time, and one begins with a setting.

    In the transaction of this test, a hook that reads has a savepoint there.
    """
    with django_assert_num_queries(18 if connection.vendor == "postgresql" else 10):
        read(client)


def test_registering_the_collector_reads_no_database(django_assert_num_queries):
    with django_assert_num_queries(0):
        CollectorRegistry(auto_describe=True).register(JobCollector())


@pytest.mark.parametrize("header", ["", "Bearer", "Bearer wrong", f"Basic {TOKEN}", "Bearer \u00e9\u00e9"])
def test_a_wrong_token_is_refused(client, header):
    response = client.get(URL, headers={"Authorization": header} if header else {})
    assert response.status_code == 401
    assert response["WWW-Authenticate"] == "Bearer"
    assert b"notifications_" not in response.content


def test_no_token_is_accepted_where_none_is_set(client, settings):
    settings.NOTIFICATIONS = {**settings.NOTIFICATIONS, "METRICS_TOKEN": ""}
    for header in ("Bearer", "Bearer ", f"Bearer {TOKEN}"):
        assert client.get(URL, headers={"Authorization": header}).status_code == 401


def test_a_short_token_is_refused(client, settings):
    from django.core.exceptions import ImproperlyConfigured

    from notifications.conf import settings as app_settings

    settings.NOTIFICATIONS = {**settings.NOTIFICATIONS, "METRICS_TOKEN": "short"}
    with pytest.raises(ImproperlyConfigured, match="16 characters"):
        _ = app_settings.METRICS_TOKEN


@pytest.mark.parametrize("is_staff", [False, True])
@pytest.mark.parametrize("has_permission", [False, True])
def test_staff_need_the_permission(user, user_client, is_staff, has_permission):
    user.is_staff = is_staff
    user.save()
    if has_permission:
        user.user_permissions.add(Permission.objects.get(codename="view_jobstatistics"))
    response = user_client.get(URL)
    assert response.status_code == (200 if is_staff and has_permission else 403)
    assert (b"notifications_workers" in response.content) == (is_staff and has_permission)


def test_other_methods_are_refused(client):
    response = client.post(URL, headers={"Authorization": f"Bearer {TOKEN}"})
    assert (response.status_code, response["Allow"]) == (405, "GET, HEAD")


def test_without_prometheus_client(client, monkeypatch):
    monkeypatch.setitem(sys.modules, "notifications.contrib.operations.metrics", None)
    response = client.get(URL, headers={"Authorization": f"Bearer {TOKEN}"})
    assert response.status_code == 501
    assert b"extra prometheus" in response.content


@pytest.mark.with_all_apps("apps have metrics of their own")
def test_every_metric_is_documented(client):
    """One row of the table for each, with its type."""
    page = (DOCS / "reference" / "metrics.md").read_text()
    documented = dict(re.findall(r"^\| `(\w+)` \| (\w+) \|", page, re.M))
    collected = {
        f"{family.name}_total" if family.type == "counter" else family.name: family.type
        for family in JobCollector().collect()
    }
    assert documented == collected
