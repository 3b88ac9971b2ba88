"""`manage.py notifications schedules` lists, runs, pauses and resumes schedules."""

import io
import json
from datetime import timedelta

import pytest
from django.core.management import CommandError, call_command

from notifications.contrib.schedules.models import Schedule
from notifications.models import Job

pytestmark = pytest.mark.nightly_on_postgres


@pytest.fixture(autouse=True)
def declared(settings, db):
    """Two schedules are declared, one was."""
    declared = {
        name: {"task": "tests.jobs.tasks.noop", "every": timedelta(minutes=10)} for name in ("poll", "report")
    }
    settings.NOTIFICATIONS = {**settings.NOTIFICATIONS, "SCHEDULES": declared}
    run("list")
    row = Schedule.objects.get(name="poll")
    row.name, row.timing, row.task_path, row.next_tick = "old", "0 3 * * * UTC", "gone.task", None
    row.save(force_insert=True)


def run(*arguments):
    """Return the lines that the command prints, those of --json decoded."""
    out = io.StringIO()
    call_command("notifications", "schedules", *arguments, stdout=out)
    lines = out.getvalue().splitlines()
    return [json.loads(line) for line in lines] if "--json" in arguments else lines


def test_list():
    """All schedules by name; one that is not declared any more has no next run."""
    run("pause", "report")
    items = run("list", "--json")
    assert [(item["name"], item["state"]) for item in items] == [
        ("old", "not declared"),
        ("poll", "active"),
        ("report", "paused"),
    ]
    assert [item["next_run"] is None for item in items] == [True, False, True]
    assert [line.split()[0] for line in run("list")] == ["old", "poll", "report"]


def test_run():
    """It prints the job. A schedule that cannot be run does not keep the others from it."""
    [item] = run("run", "poll", "--json")
    assert item == {"schedule": "poll", "job": str(Job.objects.get().id)}
    assert run("list", "--json")[1]["last_run"]["by_hand"]
    with pytest.raises(CommandError, match=r"old is not declared(.|\n)*poll was not run"):
        run("run", "old", "poll", "report")
    assert Job.objects.count() == 2


def test_pause_and_resume():
    """Twice is no error; an unknown name is."""
    assert run("pause", "poll") == ["poll paused"]
    assert run("pause", "poll") == ["poll was paused already"]
    assert run("resume", "poll", "--json") == [{"schedule": "poll", "changed": True}]
    with pytest.raises(CommandError, match="There is no schedule unknown"):
        run("pause", "unknown", "report")
    assert Schedule.objects.get(name="report").paused_at
