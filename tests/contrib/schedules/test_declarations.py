"""Declarations of schedules: each wrong one has a system check, and does not keep the others from running."""

from datetime import timedelta

import pytest
from django.core.checks import run_checks
from django.core.management import call_command

from notifications.contrib.schedules.declarations import declared_schedules
from tests.jobs import tasks
from tests.support.django_tasks import BaseTaskBackend

pytestmark = pytest.mark.nightly_on_postgres

GOOD = {"task": "tests.jobs.tasks.noop", "cron": "0 3 * * *"}


@pytest.fixture
def declare(settings):
    """declare(**schedules) sets NOTIFICATIONS["SCHEDULES"]."""

    def declare(schedules):
        settings.NOTIFICATIONS = {**settings.NOTIFICATIONS, "SCHEDULES": schedules}

    return declare


def ids():
    """Return the messages of the checks of schedules, by id."""
    found = run_checks(tags=["notifications"])
    return [message.id.removeprefix("notifications.") for message in found if "SCHEDULES" in message.msg]


def test_valid_declarations(declare, settings):
    """Every key, and the defaults."""
    settings.TIME_ZONE = "Africa/Cairo"
    declare(
        {
            "nightly-report": GOOD,
            "poll": {
                "task": "tests.jobs.tasks.add",
                "every": timedelta(minutes=10),
                "args": (1,),
                "kwargs": {"b": 2},
                "owner": "ada",
                "queue": "reports",
                "overlap": "allow",
                "grace": 60,
            },
            "sync": {
                **GOOD,
                "timezone": "Europe/Berlin",
                "group": "Operators",
                "task": "tests.jobs.tasks.noop_sync",
            },
        }
    )
    assert ids() == []
    declared = declared_schedules()
    assert str(declared["nightly-report"].timing) == "0 3 * * * Africa/Cairo"
    assert not declared["nightly-report"].allows_overlap
    assert declared["nightly-report"].grace == timedelta(hours=1)
    assert declared["poll"].args == [1] and declared["poll"].grace == timedelta(minutes=1)


@pytest.mark.parametrize(
    ("options", "id"),
    [
        ("0 3 * * *", "W020"),
        ({**GOOD, "crom": 1}, "W020"),
        ({"cron": "0 3 * * *"}, "W021"),
        ({**GOOD, "task": "no dots"}, "W021"),
        ({**GOOD, "task": "tests.jobs.tasks.missing"}, "W021"),
        ({**GOOD, "task": "tests.jobs.tasks.NotSerializable"}, "W021"),
        ({**GOOD, "every": timedelta(hours=1)}, "W022"),
        ({"task": GOOD["task"]}, "W022"),
        ({"task": GOOD["task"], "every": 60}, "W022"),
        ({"task": GOOD["task"], "every": timedelta(0)}, "W022"),
        ({"task": GOOD["task"], "every": timedelta(days=-1)}, "W022"),
        ({"task": GOOD["task"], "every": timedelta(days=400)}, "W022"),
        ({"task": GOOD["task"], "every": timedelta(hours=1), "timezone": "UTC"}, "W022"),
        ({**GOOD, "cron": "61 * * * *"}, "W022"),
        ({**GOOD, "cron": "0 0 30 2 *"}, "W022"),
        ({**GOOD, "cron": "0 0 */31 2 MON#5"}, "W022"),
        ({**GOOD, "cron": "* * * * * *"}, "W022"),
        ({**GOOD, "cron": "@daily"}, "W022"),
        ({**GOOD, "cron": "1," * 5000 + "1 * * * *"}, "W022"),
        ({**GOOD, "cron": None}, "W022"),
        ({**GOOD, "timezone": "Europe/Berlim"}, "W022"),
        ({**GOOD, "timezone": "../../etc/passwd"}, "W022"),
        ({**GOOD, "timezone": "Europe"}, "W022"),
        ({**GOOD, "timezone": 1}, "W022"),
        ({**GOOD, "args": "abc"}, "W023"),
        ({**GOOD, "args": [object()]}, "W023"),
        ({**GOOD, "args": [float("nan")]}, "W023"),
        ({**GOOD, "kwargs": {1: 2}}, "W023"),
        ({**GOOD, "task": "tests.jobs.tasks.add", "args": [1]}, "W023"),
        ({**GOOD, "owner": 7}, "W024"),
        ({**GOOD, "group": None}, "W024"),
        ({**GOOD, "owner": "ada", "group": "Operators"}, "W024"),
        ({**GOOD, "queue": 5}, "W025"),
        ({**GOOD, "overlap": "wait"}, "W025"),
        ({**GOOD, "overlap": []}, "W025"),
        ({**GOOD, "grace": 0}, "W025"),
        ({**GOOD, "grace": float("inf")}, "W025"),
        ({**GOOD, "grace": "1h"}, "W025"),
    ],
)
def test_wrong_declaration(declare, options, id):
    """It is reported by the check of its kind, and the other schedule is declared."""
    declare({"wrong": options, "good": GOOD})
    assert ids() == [id]
    assert "good" in declared_schedules()


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("task", ["tests.jobs.tasks.missing", "no dots"])
@pytest.mark.parametrize(
    "command",
    [
        ("migrate", "notifications"),
        ("notifications", "prune"),
        ("notify", "ada", "Hello"),
        ("run_jobs", "--until-idle"),
    ],
    ids=str,
)
def test_commands_run_beside_a_wrong_declaration(declare, user, command, task, capsys):
    """It is a warning: a command that checks the project first, as all do on the command line, goes on."""
    declare({"wrong": {**GOOD, "task": task}})
    call_command(*command, skip_checks=False)
    assert "W021" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["", " nightly", "a" * 101, 7, "nightly/report", "x\n"])
def test_wrong_name(declare, name):
    """Names stand in addresses and on command lines."""
    declare({name: GOOD})
    assert ids() == ["W020"]


def test_queue_that_the_backend_lacks(declare, settings):
    """Enqueueing would raise InvalidTask."""
    settings.TASKS = {"default": {"BACKEND": "notifications.jobs.backend.JobBackend", "QUEUES": ["default"]}}
    declare({"queue": {**GOOD, "queue": "unknown"}})
    assert ids() == ["W025"]


def test_task_of_another_backend(declare, settings, monkeypatch):
    """Its jobs would not be stored in this app."""
    other = {"BACKEND": "tests.contrib.schedules.test_declarations.OtherBackend"}
    settings.TASKS = {**settings.TASKS, "other": other}
    monkeypatch.setattr(f"{__name__}.of_other", tasks.noop.using(backend="other"), raising=False)
    declare({"other": {**GOOD, "task": f"{__name__}.of_other"}})
    assert ids() == ["W021"]


class OtherBackend(BaseTaskBackend):
    supports_async_task = True
    supports_priority = True

    def enqueue(self, task, args, kwargs):
        raise AssertionError


def test_schedules_are_not_a_dict(declare):
    """E003 reports it, and nothing is declared."""
    declare([GOOD])
    errors = [m.id for m in run_checks(tags=["notifications"]) if m.is_serious()]
    assert errors == ["notifications.E003"]
    assert declared_schedules() == {}
