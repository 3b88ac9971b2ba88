"""The admin shows which engine runs a job, and filters jobs by engine."""

import re

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from notifications.models import Job
from tests.contrib.engines.conftest import engine_process, idle_engine  # noqa: F401 (fixtures)
from tests.jobs import tasks
from tests.jobs.conftest import live_worker  # noqa: F401 (fixture)

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.nightly_on_postgres]

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


def test_engine_is_a_column(idle_engine, engine_process, settings, admin_client):  # noqa: F811
    """One job was queued before its backend had the engine, one is the built-in worker's."""
    settings.TASKS = {**settings.TASKS, "local": {**settings.TASKS["default"], "OPTIONS": {}}}
    engine_process()
    _, earlier, builtin = (tasks.noop.using(title=title).enqueue().id for title in "abc")
    Job.objects.filter(id=earlier).update(executor="async")
    Job.objects.filter(id=builtin).update(executor="async", backend="local")
    assert cells(admin_client, "state_cell") == ["Queued", "Queued", "Queued"]
    assert cells(admin_client, "runs_on") == ["Built-in worker", "Idle", "Idle"]


def test_quarantined_jobs(idle_engine, engine_process, admin_client):  # noqa: F811
    """A job whose process was lost says that it is quarantined."""
    engine_process()
    id = tasks.noop.enqueue().id
    Job.objects.update(executor="quarantined")
    assert cells(admin_client, "runs_on") == ["Idle (Quarantined)"]
    assert "Idle (Quarantined)" in admin_client.get(f"{LIST}{id}/change/").text


def test_jobs_are_filtered_by_engine(idle_engine, settings, admin_client):  # noqa: F811
    """Two backends with the same engine are told apart by their aliases."""
    default = settings.TASKS["default"]
    settings.TASKS = {"default": default, "second": default, "local": {**default, "OPTIONS": {}}}
    for alias in settings.TASKS:
        tasks.noop.using(backend=alias, title=alias).enqueue()
    page = admin_client.get(LIST).text
    assert "Idle (default)" in page and "Idle (second)" in page
    values = {
        "engine:default": "default",
        "engine:second": "second",
        "builtin": "local",
    }
    assert {value: titles(admin_client, value) for value in values} == {
        value: [title] for value, title in values.items()
    }


def test_without_an_engine_nothing_is_shown(admin_client):
    """A project with the built-in worker only has neither columns nor a filter."""
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
