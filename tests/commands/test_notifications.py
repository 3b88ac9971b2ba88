"""`manage.py notifications` dispatches to its subcommands, and each command of the app ends cleanly."""

import io
import subprocess
import sys

import pytest
from django.core.management import CommandError, call_command, get_commands, load_command_class

from asyncsite.environment import NAMES
from notifications.management import ManagementCommand
from notifications.management.commands import notifications
from tests.docs.pages import ROOT

pytestmark = pytest.mark.nightly_on_old_django

SUBCOMMANDS = sorted(notifications.Command.subcommands)


class EchoCommand(ManagementCommand):
    help = "Print what it gets."
    requires_system_checks = ()
    examples = ("ada",)

    def add_arguments(self, parser):
        parser.add_argument("name")
        parser.add_argument("--times", type=int, default=1)

    def handle(self, *args, **options):
        self.stdout.write(" ".join([options["name"]] * options["times"]) + f" {options['verbosity']}")


class ProjectCommand(notifications.Command):
    subcommands = {**notifications.Command.subcommands, "echo": EchoCommand}


def printed(command, *arguments, **options):
    out = io.StringIO()
    call_command(command, *arguments, stdout=out, **options)
    return out.getvalue()


def test_a_project_adds_a_subcommand(capsys):
    """On the command line and in call_command(), with options as arguments or as keywords."""
    assert printed(ProjectCommand(), "echo", "ada", "--times", "2") == "ada ada 1\n"
    assert printed(ProjectCommand(), "echo", "ada", times=3) == "ada ada ada 1\n"
    ProjectCommand().run_from_argv(["manage.py", "notifications", "echo", "ada"])
    assert capsys.readouterr().out == "ada 1\n"


@pytest.mark.parametrize("arguments", [["-v", "2", "echo", "ada"], ["echo", "ada", "-v", "2"]])
def test_options_of_every_command(arguments, capsys):
    """They may stand before or after the subcommand."""
    ProjectCommand().run_from_argv(["manage.py", "notifications", *arguments])
    assert capsys.readouterr().out == "ada 2\n"


def test_the_old_names_are_free():
    """A project may have commands of these names itself."""
    assert {"notifications", "notify", "run_jobs"} <= {
        name for name, app in get_commands().items() if app in ("notifications", "asyncsite")
    }
    assert get_commands().keys().isdisjoint(SUBCOMMANDS)


def test_system_checks_run_as_the_subcommand_requires(monkeypatch):
    """Those of a subcommand, before it; none before doctor, which must run when they fail."""
    checked = []
    monkeypatch.setattr(EchoCommand, "check", lambda self, **kwargs: checked.append("echo"))
    monkeypatch.setattr(EchoCommand, "requires_system_checks", "__all__")
    call_command(ProjectCommand(), "echo", "ada", stdout=io.StringIO(), skip_checks=False)
    assert checked == ["echo"]
    assert notifications.Command.subcommands["doctor"].requires_system_checks == ()


def test_an_unknown_subcommand():
    with pytest.raises(CommandError, match="invalid choice: 'dance'"):
        call_command("notifications", "dance")


@pytest.mark.parametrize(
    ("app", "arguments"),
    [
        ("notifications", ["run_jobs"]),
        ("notifications", ["notify"]),
        ("asyncsite", ["serve"]),
        ("asyncsite", ["work"]),
        *(("notifications", ["notifications", name]) for name in SUBCOMMANDS),
    ],
    ids=lambda value: value[-1] if isinstance(value, list) else "",
)
def test_the_help_has_examples(app, arguments, capsys):
    """Each is a call of the command, those of the site with variables that it reads."""
    with pytest.raises(SystemExit):
        load_command_class(app, arguments[0]).run_from_argv(["manage.py", *arguments, "--help"])
    out = capsys.readouterr().out
    examples = out.partition("\nExamples:\n")[2].splitlines()
    assert examples
    for example in examples:
        variables, manage, rest = example.partition("manage.py ")
        assert manage and f"{rest} ".startswith(f"{' '.join(arguments)} ")
        names = [name for name, _, value in (part.partition("=") for part in variables.split()) if value]
        assert len(names) == len(variables.split()) and {*names} <= {*NAMES}
        assert not names or app == "asyncsite"


def test_ctrl_c_ends_a_command_without_a_traceback(monkeypatch, capsys):
    """With the exit code of a program that SIGINT ended."""

    def interrupt(self, *args, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr(EchoCommand, "handle", interrupt)
    with pytest.raises(SystemExit) as ended:
        ProjectCommand().run_from_argv(["manage.py", "notifications", "echo", "ada"])
    assert ended.value.code == 130
    assert capsys.readouterr().err == ""


def test_a_closed_pipe_ends_a_command_without_a_traceback():
    code = (
        "from tests.commands.test_notifications import EchoCommand, ProjectCommand\n"
        "ProjectCommand().run_from_argv(['manage.py', 'notifications', 'echo', 'x' * 99999, '--times', '9'])"
    )
    command = [sys.executable, "-c", f"import django; django.setup()\n{code}"]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait(60) == 141
