"""``manage.py notifications SUBCOMMAND``: the commands whose names a project may have itself."""

from __future__ import annotations

from argparse import ArgumentParser
from typing import Any, ClassVar

from django.core.management.base import BaseCommand

from notifications.management.management_command import (
    HelpFormatter,
    ManagementCommand,
    add_missing,
    refuse_missing,
    with_extensions,
)
from notifications.management.subcommands.doctor import DoctorCommand
from notifications.management.subcommands.jobs import JobsCommand
from notifications.management.subcommands.new_epoch import NewEpochCommand
from notifications.management.subcommands.prune import PruneCommand
from notifications.management.subcommands.watch import WatchCommand


class Command(ManagementCommand):
    """Dispatches to one of ``subcommands``.

    A project adds or replaces subcommands in a command of the same name, in an app that stands above
    ``notifications`` in ``INSTALLED_APPS``::

        class PruneCommand(notifications.Command.subcommands["prune"]): ...

        class Command(notifications.Command):
            subcommands = {**notifications.Command.subcommands, "prune": PruneCommand}
    """

    help = "Examine and operate background jobs and notifications."
    examples = ("doctor", "jobs list --state failed", "jobs --help")
    subcommands: ClassVar[dict[str, type[ManagementCommand]]] = with_extensions(
        {
            "doctor": DoctorCommand,
            "jobs": JobsCommand,
            "watch": WatchCommand,
            "prune": PruneCommand,
            "new_epoch": NewEpochCommand,
        }
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        name = parser.prog.rpartition(" ")[2]
        subparsers = parser.add_subparsers(dest="subcommand", required=True, metavar="SUBCOMMAND")
        inherited = self.common_options()
        for subcommand, command_class in self.subcommands.items():
            command = command_class()
            command.add_arguments(
                subparsers.add_parser(
                    subcommand,
                    help=summary(command),
                    description=command.help,
                    epilog=command.epilog(f"{name} {subcommand}"),
                    formatter_class=HelpFormatter,
                    parents=[inherited],
                )
            )
        add_missing(subparsers, self.subcommands)

    def execute(self, *args: Any, subcommand: str, **options: Any) -> Any:
        """Execute the subcommand, with the system checks that it requires."""
        if subcommand not in self.subcommands:
            refuse_missing(subcommand)
        command = self.subcommands[subcommand]()
        command._called_from_command_line = self._called_from_command_line
        if options["no_color"]:
            self.stderr.style_func = None  # type: ignore[assignment]  # Django's own way
        return command.execute(*args, **options)


def summary(command: BaseCommand) -> str:
    """Return the first sentence of the description of a command, in lower case and without its period."""
    sentence = command.help.partition(". ")[0].rstrip(".")
    return sentence[:1].lower() + sentence[1:]
