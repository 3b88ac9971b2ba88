"""Subcommands of extensions that cannot be used are left out of `manage.py notifications`, and named."""

import sys

import pytest
from django.core.management import CommandError, call_command

from notifications import testing
from notifications.extension import Extension
from notifications.management import ManagementCommand
from notifications.management.commands import notifications
from notifications.management.management_command import unusable, with_extensions
from tests.commands.test_notifications import printed
from tests.extension.recorder import RecordCommand, Recorder
from tests.support.checks import doctor
from tests.support.extensions import install

ECHO = "tests.commands.test_notifications.EchoCommand"


class FailingCommand(ManagementCommand):
    def add_arguments(self, parser):
        raise RuntimeError("The vault is away.")


class WithJson(ManagementCommand):
    """A verb of `jobs`, to which `jobs` adds this option too."""

    def add_arguments(self, parser):
        parser.add_argument("--json")


class DoctorOfProject(notifications.Command.subcommands["doctor"]):
    help = "Check the project too."


def with_subcommands(monkeypatch, **subcommands):
    """Return the command as it is where an extension has these subcommands."""
    here = __name__
    extension = type("Broken", (Extension,), {"name": "notifications.testing", "label": "broken"})
    extension.subcommands = {
        name.replace("_", " "): path if "." in path else f"{here}.{path}"
        for name, path in subcommands.items()
    }
    install(monkeypatch, extension("notifications.testing", testing))
    core = notifications.Command.subcommands
    verbs = with_extensions(core["jobs"].verbs, below="jobs")
    jobs = type("Jobs", (core["jobs"],), {"verbs": verbs})
    return type(
        "Command", (notifications.Command,), {"subcommands": with_extensions({**core, "jobs": jobs})}
    )()


def test_a_subcommand_of_an_extension_that_cannot_be_used(monkeypatch, capsys):
    """It is named in the help and when it is called, whatever its arguments are. The others work."""
    monkeypatch.setattr(sys, "argv", ["manage.py"])
    wrong = {"fax": "no.such.Fax", "text": "unusable", "noisy": "FailingCommand", "jobs_json": "WithJson"}
    command = with_subcommands(monkeypatch, echo=ECHO, **wrong)
    try:
        assert printed(command, "echo", "ada") == "ada 1\n"
        for words in (["--help"], ["jobs", "--help"]):
            with pytest.raises(SystemExit):
                command.run_from_argv(["manage.py", "notifications", *words])
        shown = " ".join(capsys.readouterr().out.split())
        for name, problem in {
            "fax": "'fax' is no.such.Fax, which cannot be used: ModuleNotFoundError: No module named 'no'",
            "text": "TypeError: It is no subclass of notifications.management.",
            "noisy": "RuntimeError: The vault is away.",
            "jobs json": "ArgumentError: argument --json: conflicting option string",
        }.items():
            assert f"{name.rpartition(' ')[2]} cannot be used" in shown, (name, shown)
            with pytest.raises(CommandError) as refused:
                call_command(command, *name.split(), "--limit", "3", "x")
            assert problem in str(refused.value), str(refused.value)
            assert str(refused.value).endswith("Correct the class, or remove its app from INSTALLED_APPS.")
        assert {*unusable} == {name.replace("_", " ") for name in wrong}
    finally:
        unusable.clear()


@pytest.mark.django_db(transaction=True)
def test_a_subcommand_that_would_replace_one_of_the_core(monkeypatch):
    """Only a subclass of the core's class does. doctor names any other."""
    core = notifications.Command.subcommands
    try:
        command = with_subcommands(monkeypatch, doctor="DoctorOfProject", prune=ECHO, jobs_list=ECHO)
        assert command.subcommands["doctor"] is DoctorOfProject
        assert command.subcommands["prune"] is core["prune"]
        assert command.subcommands["jobs"].verbs["list"] is core["jobs"].verbs["list"]
        findings = doctor("subcommands")
        assert [finding["state"] for finding in findings] == ["warning"] * 2
        assert [finding["message"].partition(",")[0] for finding in findings] == [
            f"The subcommand 'jobs list' is {ECHO}",
            f"The subcommand 'prune' is {ECHO}",
        ]
    finally:
        unusable.clear()


def test_subcommands_of_extensions(monkeypatch):
    """After those of the core; verbs below the one that is named with them."""
    install(monkeypatch, Recorder())
    found = with_extensions({"doctor": ManagementCommand, "prune": ManagementCommand})
    assert (list(found)[:2], found["record"]) == (["doctor", "prune"], RecordCommand)
    found = with_extensions({"list": ManagementCommand, "cancel": ManagementCommand}, below="jobs")
    assert (found["list"], found["cancel"], "record" in found) == (ManagementCommand, RecordCommand, False)
