"""What commands write: no control characters of stored texts, and no traceback if something is missing."""

import os
import re
import subprocess
import sys
from contextlib import suppress
from datetime import timedelta
from io import BytesIO, StringIO, TextIOWrapper

import pytest
from django.core import checks
from django.core.management import CommandError, call_command, load_command_class
from django.core.management.base import SystemCheckError
from django.db import OperationalError, connection
from django.db.migrations.recorder import MigrationRecorder
from django.utils import timezone

from notifications.api import notify
from notifications.management.commands.notifications import Command
from notifications.models import Job, Notification
from notifications.testing import run_jobs
from tests.contrib.output import output_tasks
from tests.jobs import tasks
from tests.support.site import ROOT
from tests.support.statements import preceded

pytestmark = pytest.mark.nightly_on_old_django

ATTACK = "\x1b]0;owned\x07\x9b31m\u202e"
ESCAPED = r"\u001b]0;owned\u0007\u009b31m\u202e"


@pytest.fixture
def hostile_rows(user):
    """Return a job and a notification whose texts have characters that a terminal would execute."""
    notify(user, f"Note {ATTACK}")
    return tasks.noop.using(owner=user, title=f"Job {ATTACK}").enqueue()


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(
    "arguments",
    [["jobs", "list"], ["jobs", "show", "ID"], ["jobs", "show", "ID", "--json"], ["watch", "ada", "--once"]],
    ids=" ".join,
)
def test_control_characters_are_escaped(hostile_rows, arguments):
    """As JSON escapes them."""
    out = StringIO()
    arguments = [hostile_rows.id if argument == "ID" else argument for argument in arguments]
    call_command("notifications", *arguments, stdout=out)
    assert ESCAPED in out.getvalue().replace(r"\u009B", r"\u009b")
    assert not {*ATTACK} - {*ESCAPED} & {*out.getvalue()}


COMMANDS = [
    ["jobs", "list"],
    ["jobs", "show", "ID"],
    ["jobs", "stats", "--by-task"],
    ["explain", "--user", "ada"],
    ["watch", "ada", "--once"],
    ["doctor"],
]


@pytest.fixture
def forging_rows(user):
    """Return a failed job and a notification whose texts look like lines of commands, and are not ASCII."""
    for end in ("\n", "\r\n", "\u2028", "\x85"):
        notify(user, f"Größe{end}FORGED", body=f"ä{end}FORGED", category=f"ö{end}FORGED")
    result = output_tasks.forge.using(owner=user, title="Größe\nFORGED", queue_name="ü\nFORGED").enqueue()
    run_jobs()
    return result


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("arguments", COMMANDS, ids=" ".join)
def test_a_stored_text_makes_no_line(forging_rows, arguments):
    """It is one line, or part of one: otherwise a title could look like the state of a job, or an event."""
    out = StringIO()
    arguments = [forging_rows.id if argument == "ID" else argument for argument in arguments]
    with suppress(CommandError):  # of doctor: no worker runs
        call_command("notifications", *arguments, stdout=out)
    assert out.getvalue()
    assert not [line for line in out.getvalue().splitlines() if line.startswith("FORGED")]


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("arguments", COMMANDS, ids=" ".join)
def test_a_terminal_without_unicode(forging_rows, arguments):
    """What it cannot show is written with a backslash."""
    out = TextIOWrapper(BytesIO(), encoding="ascii")
    arguments = [forging_rows.id if argument == "ID" else argument for argument in arguments]
    with suppress(CommandError):
        call_command("notifications", *arguments, stdout=out)
    out.flush()
    written = out.buffer.getvalue().decode()
    assert written
    assert "Größe" not in written and ("Gr" not in written or r"Gr\xf6\xdfe" in written)


@pytest.mark.django_db(transaction=True)
def test_arguments_on_a_terminal_without_unicode(user, capsys):
    """Python keeps their bytes as lone surrogates."""
    argument = "Größe".encode().decode("ascii", "surrogateescape")
    load_command_class("notifications", "notify").run_from_argv(
        ["manage.py", "notify", user.username, argument]
    )
    assert Notification.objects.get().title == "Größe"
    with pytest.raises(SystemExit):
        load_command_class("notifications", "notify").run_from_argv(
            ["manage.py", "notify", argument, "Title"]
        )
    assert "There is no user 'Größe'." in capsys.readouterr().err


@pytest.mark.django_db
def test_standard_input_that_is_not_encoded_as_the_terminal(user, monkeypatch):
    monkeypatch.setattr(sys, "stdin", TextIOWrapper(BytesIO("Größe".encode()), encoding="ascii"))
    with pytest.raises(CommandError, match=r"Nothing was sent\. Standard input is not encoded as ascii\."):
        call_command("notify", user.username, "Title", "--body", "-")


@pytest.mark.django_db(transaction=True)
def test_errors_are_escaped(capsys):
    with pytest.raises(SystemExit):
        Command().run_from_argv(["manage.py", "notifications", "schedules", "pause", ATTACK])
    assert ESCAPED in capsys.readouterr().err


@pytest.mark.parametrize("level", [checks.WARNING, checks.ERROR])
def test_issues_of_system_checks_are_readable_on_a_color_terminal(level, monkeypatch):
    """Django colors them before they are written. Values in them are escaped."""
    issues = [checks.CheckMessage(level, f"wrong {ATTACK}")]
    monkeypatch.setattr(checks, "run_checks", lambda *args, **kwargs: issues)
    command = Command.subcommands["jobs"](stdout=StringIO(), stderr=StringIO(), force_color=True)
    try:
        command.check()
    except SystemCheckError as exc:
        command.stderr.write(str(exc), lambda text: text)  # as Django's run_from_argv() does
    written = command.stderr.getvalue()
    assert ESCAPED in written and r"\u001b[" not in written


@pytest.mark.django_db
def test_note_of_unapplied_migrations_is_readable_on_a_color_terminal():
    MigrationRecorder(connection).migration_qs.filter(app="sessions").delete()
    command = Command.subcommands["jobs"](stdout=StringIO(), force_color=True)
    command.check_migrations()
    written = command.stdout.getvalue()
    assert "unapplied migration" in written and r"\u001b" not in written


def run(*arguments, stdout=subprocess.PIPE, close_stdout=False, **environment):
    """Run a command in a process, and return it."""
    command = [sys.executable, "manage.py", "notifications", *arguments]
    if close_stdout:
        command = ["sh", "-c", 'exec "$@" >&-', "sh", *command]
    environment = {**os.environ, "DJANGO_SETTINGS_MODULE": "asyncsite.settings", "DEBUG": "1", **environment}
    return subprocess.run(
        command, cwd=ROOT, stdout=stdout, stderr=subprocess.PIPE, env=environment, text=True, timeout=120
    )


@pytest.mark.nightly_names("*[arguments1-*", "*[arguments2-*")
@pytest.mark.parametrize(
    ("arguments", "url", "expected"),
    [
        (["watch", "ada"], "sqlite:///{}/empty.sqlite3", "Run manage.py migrate."),
        (["jobs", "list"], "sqlite:///{}/empty.sqlite3", "Run manage.py migrate."),
        (["watch", "ada"], "postgres://nobody@127.0.0.1:1/nothing", "Try again."),
    ],
)
def test_no_tables_or_database(arguments, url, expected, tmp_path):
    """The message says what to do."""
    ended = run(*arguments, DATABASE_URL=url.format(tmp_path))
    assert ended.returncode == 1 and "Traceback" not in ended.stderr
    assert ended.stderr.strip().endswith(expected), ended.stderr


@pytest.mark.nightly
def test_output_that_cannot_be_written():
    """A full disk, and a closed standard output."""
    code = (
        "import django; django.setup()\n"
        "from tests.commands.test_notifications import ProjectCommand\n"
        "ProjectCommand().run_from_argv(['manage.py', 'notifications', 'echo', 'text'])"
    )
    with open("/dev/full", "w") as full:
        ended = subprocess.run(
            [sys.executable, "-c", code],
            cwd=ROOT,
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            timeout=120,
        )
    assert (ended.returncode, ended.stderr) == (
        1,
        "The output could not be written: No space left on device.\n",
    )
    ended = run("jobs", "list", close_stdout=True)
    assert (ended.returncode, ended.stderr) == (1, "Standard output is closed.\n")


@pytest.mark.django_db(transaction=True)
def test_ctrl_c_in_prune_says_what_was_deleted(user):
    for number in range(12):
        notify(user, f"{number}")
    Notification.objects.update(archived_at=timezone.now() - timedelta(days=99))

    def interrupt():
        raise KeyboardInterrupt

    out = StringIO()
    with preceded("notifications_seenmark", interrupt), pytest.raises(KeyboardInterrupt):
        call_command("notifications", "prune", stdout=out)
    assert out.getvalue() == "12 rows deleted.\n"


@pytest.mark.parametrize("name", ["jobs", "schedules"])
def test_each_verb_has_examples(name, capsys):
    for verb in (
        "list",
        "pause",
        "resume",
        *(["retry", "cancel", "reschedule", "output", "tail", "stats"] if name == "jobs" else ["run"]),
    ):
        with pytest.raises(SystemExit):
            Command().run_from_argv(["manage.py", "notifications", name, verb, "--help"])
        assert f"Examples:\n  manage.py notifications {name} {verb}" in capsys.readouterr().out


@pytest.mark.django_db(transaction=True)
def test_retry_and_cancel_by_filters(user):
    """In place of ids; with both or neither it is wrong usage."""
    for queue in ("mail", "mail", "reports"):
        tasks.noop.using(owner=user, queue_name=queue).enqueue()
    out = StringIO()
    call_command("notifications", "jobs", "cancel", "--queue", "mail", "--user", "ada", stdout=out)
    assert out.getvalue() == "2 jobs cancelled, or requested to end.\n"
    call_command("notifications", "jobs", "retry", "--state", "cancelled", "--json", stdout=out)
    assert out.getvalue().endswith('{"changed": 2, "skipped": 0}\n')
    assert Job.objects.filter(state="queued").count() == 3
    with pytest.raises(CommandError, match="--state is failed"):
        call_command("notifications", "jobs", "cancel", "--state", "failed")
    with pytest.raises(CommandError, match="name jobs by their ids, or use"):
        call_command("notifications", "jobs", "cancel", str(Job.objects.first().id), "--queue", "mail")


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("verb", ["pause", "resume"])
def test_a_queue_that_does_not_exist_warns(verb):
    """A note, which is not red."""
    out, err = StringIO(), StringIO()
    call_command("notifications", "jobs", verb, "typo", stdout=out, stderr=err, force_color=True)
    assert err.getvalue() == "No job is in the queue typo, and TASKS does not name it. Is it misspelled?\n"
    tasks.noop.using(queue_name="used").enqueue()
    call_command("notifications", "jobs", verb, "used", stdout=out, stderr=(err := StringIO()))
    assert err.getvalue() == ""


@pytest.mark.parametrize(
    ("exc", "text"),
    [
        (
            OperationalError("connection failed:\n\tno route"),
            "Database error: connection failed: no route. Try again.",
        ),
        (MemoryError(), "A resource is not available: MemoryError. Try again."),
    ],
)
@pytest.mark.django_db
def test_an_error_is_one_sentence(exc, text):
    def fail():
        raise exc

    fails = preceded("notifications_schedules_schedule", fail, times=None)
    with fails, pytest.raises(CommandError, match=f"^{re.escape(text)}$"):
        call_command("notifications", "schedules", "list")
