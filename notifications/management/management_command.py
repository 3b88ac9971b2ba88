"""The base class of the app's management commands: examples in ``--help``, exit codes, Ctrl-C and closed pipes."""

from __future__ import annotations

import os
import sys
from argparse import SUPPRESS, RawDescriptionHelpFormatter
from typing import Any, ClassVar

from django.core.management.base import BaseCommand, CommandParser, DjangoHelpFormatter

from notifications.db.transactions import turn_autocommit_on

#: The exit codes of a program that ends by SIGINT or SIGPIPE, as shells report them.
INTERRUPTED, CLOSED_PIPE = 130, 141


class HelpFormatter(DjangoHelpFormatter):
    """Wraps the description and keeps the lines of the examples."""

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        if text.startswith("Examples:"):
            return RawDescriptionHelpFormatter._fill_text(self, text, width, indent)
        return super()._fill_text(text, width, indent)


class ManagementCommand(BaseCommand):
    """A command of the app, or a subcommand of ``manage.py notifications``.

    ``examples`` are the arguments of calls that ``--help`` shows, without ``manage.py`` and the command's name.
    On the command line it exits with 130 at Ctrl-C and with 141 when the program that reads its output has ended.
    """

    examples: ClassVar[tuple[str, ...]] = ()

    def create_parser(self, prog_name: str, subcommand: str, **kwargs: Any) -> CommandParser:
        """Return the parser, with the examples below the options."""
        kwargs.setdefault("formatter_class", HelpFormatter)
        kwargs.setdefault("epilog", self.epilog(subcommand))
        return super().create_parser(prog_name, subcommand, **kwargs)

    def epilog(self, name: str) -> str:
        """Return the examples as a block of lines; ``name`` is what follows ``manage.py``."""
        lines = (f"  manage.py {name} {example}".rstrip() for example in self.examples)
        return "\n".join(["Examples:", *lines]) if self.examples else ""

    def run_from_argv(self, argv: list[str]) -> None:
        """Run the command with the arguments of the command line, and exit if it is interrupted."""
        try:
            super().run_from_argv(argv)
        except KeyboardInterrupt:
            sys.exit(INTERRUPTED)
        except BrokenPipeError:
            # Python writes what is buffered at its exit, which would fail again.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            sys.exit(CLOSED_PIPE)

    def execute(self, *args: Any, **options: Any) -> Any:
        """Run the command, in a project with ``AUTOCOMMIT = False`` with autocommit if it is its own process."""
        if self._called_from_command_line:
            turn_autocommit_on()
        return super().execute(*args, **options)


def common_options() -> CommandParser:
    """Return a parser of the options of every Django command, for parsers of subcommands to inherit.

    They have no defaults, so that ``manage.py notifications -v 2 doctor`` and ``… doctor -v 2`` mean the same.
    """
    parser = BaseCommand().create_parser("", "", add_help=False, argument_default=SUPPRESS)
    for action in parser._actions:
        action.default = SUPPRESS
        action.help = SUPPRESS
    return parser
