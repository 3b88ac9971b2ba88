"""The admin shows which engine runs a job, whether its id was dispatched, and filters jobs by engine."""

import re
from datetime import UTC, datetime, timedelta

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from notifications.extension import hooks
from notifications.models import Job
from tests.contrib.engines.conftest import engine_process, idle_engine  # noqa: F401 (fixtures)
from tests.jobs import tasks
from tests.jobs.conftest import live_worker  # noqa: F401 (fixture)

pytestmark = pytest.mark.django_db(transaction=True)

LIST = "/admin/notifications/job/"


def cells(client, column, query=""):
    """Return the texts of a column of the list, in its order."""
    text = client.get(f"{LIST}?{query}").text
    return re.findall(rf'class="field-{column}[^"]*">(?:<(?:a|span)[^>]*>)*([^<]*)<', text)


def titles(client, value):
    """Return the titles of the jobs that the filter by engine lists."""
    return re.findall(
        r'class="field-title[^"]*"><a[^>]*>([^<]*)<', client.get(f"{LIST}?runs_on={value}").text
    )


@pytest.mark.with_all_apps("one of the jobs is observed by Celery")
def test_engine_and_dispatch_are_columns(idle_engine, engine_process, admin_client):  # noqa: F811
    """One was dispatched twice, one is not yet, one was queued for the built-in worker, one was observed."""
    engine_process()
    twice, not_yet, builtin, observed = (tasks.noop.using(title=title).enqueue().id for title in "abcd")
    Job.objects.filter(id=twice).update(dispatch_count=2)
    Job.objects.filter(id=not_yet).update(executor="engine", dispatch_count=0)
    Job.objects.filter(id=builtin).update(executor="async", dispatch_count=0)
    Job.objects.filter(id=observed).update(executor="observed", dispatch_count=0, state="running")
    assert cells(admin_client, "state_cell") == ["Running", "Queued", "Queued", "Queued in Idle"]
    idle = ["Idle", "Idle, dispatched 2 times"]
    assert cells(admin_client, "runner") == ["Celery (observed)", "Built-in worker", *idle]


def test_quarantined_jobs(idle_engine, engine_process, admin_client):  # noqa: F811
    """A job whose process was lost says that it is quarantined, and since when its engine has its id."""
    engine_process()
    ids = [tasks.noop.enqueue().id for _ in range(2)]
    Job.objects.update(executor="engine_quarantined", dispatched_at=None)
    Job.objects.filter(id=ids[1]).update(dispatched_at=timezone.now() - timedelta(minutes=5, seconds=30))
    assert cells(admin_client, "runner") == ["Idle (Quarantined)"] * 2
    assert cells(admin_client, "state_cell") == ["Queued in Idle for 5\xa0minutes", "Queued"]
    page = admin_client.get(f"{LIST}{ids[1]}/change/").text
    assert "once" in page and "if it is still queued" in page


def test_list_says_for_how_long_a_job_waits_in_its_engine(idle_engine, engine_process, admin_client):  # noqa: F811
    engine_process()
    tasks.noop.enqueue()
    Job.objects.update(dispatched_at=timezone.now() - timedelta(minutes=5, seconds=30))
    assert cells(admin_client, "state_cell") == ["Queued in Idle for 5\xa0minutes"]


def test_page_of_a_job_says_when_it_is_dispatched_again(idle_engine, engine_process, admin_client):  # noqa: F811
    """Not once it runs."""
    engine_process()
    id = tasks.noop.enqueue().id
    since, again = datetime(2021, 1, 2, 3, 4, tzinfo=UTC), datetime(2031, 2, 3, 4, 5, tzinfo=UTC)
    Job.objects.update(dispatched_at=since, next_dispatch_at=again)
    page = admin_client.get(f"{LIST}{id}/change/").text
    assert "once" in page and "Jan. 2, 2021" in page and "Feb. 3, 2031" in page
    Job.objects.update(state="running", executor="engine")
    page = admin_client.get(f"{LIST}{id}/change/").text
    assert "once" in page and "Jan. 2, 2021" not in page and "Feb. 3, 2031" not in page


@pytest.mark.with_all_apps("one of the jobs is observed by Celery")
def test_jobs_are_filtered_by_engine(idle_engine, settings, admin_client):  # noqa: F811
    """Two backends with the same engine are told apart by their aliases."""
    default = settings.TASKS["default"]
    settings.TASKS = {"default": default, "second": default, "local": {**default, "OPTIONS": {}}}
    for alias in settings.TASKS:
        tasks.noop.using(backend=alias, title=alias).enqueue()
    tasks.noop.using(backend="local", title="observed").enqueue()
    Job.objects.filter(title="observed").update(executor="observed")
    page = admin_client.get(LIST).text
    assert "Idle (default)" in page and "Idle (second)" in page
    values = {
        "engine:default": "default",
        "engine:second": "second",
        "builtin": "local",
        "observed": "observed",
    }
    assert {value: titles(admin_client, value) for value in values} == {
        value: [title] for value, title in values.items()
    }


def test_without_an_engine_nothing_is_shown(admin_client, monkeypatch):
    """A project with the built-in worker only has neither columns nor a filter."""
    monkeypatch.setattr(hooks, "runners", {})
    id = tasks.noop.enqueue().id
    for page in (LIST, f"{LIST}{id}/change/"):
        text = admin_client.get(page).text
        assert "uilt-in worker" not in text and "anded over" not in text


@pytest.mark.parametrize("is_alive", [True, False])
def test_queries_do_not_grow_with_the_jobs(idle_engine, engine_process, admin_client, is_alive):  # noqa: F811
    if is_alive:
        engine_process()

    def count():
        with CaptureQueriesContext(connection) as queries:
            admin_client.get(LIST)
        return len(queries)

    tasks.noop.enqueue()
    count()
    before = count()
    for _ in range(20):
        tasks.noop.enqueue()
    assert count() == before
