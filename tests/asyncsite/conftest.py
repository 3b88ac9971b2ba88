"""Clients of a user, reports, and an upstream that the site may call."""

import pytest
from django.utils import timezone

from asyncsite.models import Call, Report
from notifications.models import Job
from notifications.outbound.circuits import circuits
from tests.outbound.upstream import Upstream

PAGE = "text/html,application/xhtml+xml,*/*;q=0.8"


@pytest.fixture
def person(user, client):
    """A browser in which ``user`` is signed in."""
    client.force_login(user)
    client.defaults["HTTP_ACCEPT"] = PAGE
    return client


@pytest.fixture
def program(user, client):
    """A program with the user's session that does not say what it would like to get."""
    client.force_login(user)
    return client


@pytest.fixture
def development(settings):
    """As `make run` runs it; tests run as production does."""
    settings.DEBUG = True


@pytest.fixture
def upstream(settings):
    """An upstream on loopback that the allow list opens."""
    upstream = Upstream()
    settings.NOTIFICATIONS = {**settings.NOTIFICATIONS, "OUTBOUND_ALLOW": [upstream.address]}
    yield upstream
    upstream.close()
    circuits.reset()


@pytest.fixture
def make_report(user):
    """Makes a report with rows: make_report(ok=[12, 40], failed=1, refused=1, missing=0)."""

    def make(*, owner=user, ok=(), failed=0, refused=0, missing=0, title="Mine", **fields):
        calls = [
            *(Call(outcome="ok", status=200, elapsed_ms=ms, bytes=2, content_type="text/plain") for ms in ok),
            *(Call(outcome="failed", error="It broke off.") for _ in range(failed)),
            *(Call(outcome="refused", error="It is not public.") for _ in range(refused)),
        ]
        urls = [f"https://api.example.com/{number}" for number in range(1, len(calls) + missing + 1)]
        report = Report.objects.create(owner=owner, title=title, urls=urls, size=len(urls), **fields)
        for position, (call, url) in enumerate(zip(calls, urls, strict=False), start=1):
            call.report, call.position, call.url = report, position, url
        Call.objects.bulk_create(calls)
        return report

    return make


def set_job(report, state, **fields):
    """Create the job of a report in a state."""
    now = timezone.now()
    job = Job.objects.create(
        user=report.owner, state=state, task_path="t", backend="default", queue_name="default", title=report.title,
        url=report.get_absolute_url(), created_at=now, queued_at=now, **fields,
    )  # fmt: skip
    Report.objects.filter(pk=report.pk).update(job_id=job.pk)
    return job
