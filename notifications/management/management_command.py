"""The base class of the app's management commands: examples in ``--help``, exit codes, output, errors and Ctrl-C."""

from __future__ import annotations

import json
import os
import re
import sys
from argparse import REMAINDER, SUPPRESS, ArgumentTypeError, RawDescriptionHelpFormatter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, ClassVar, NoReturn
from uuid import UUID

from django.contrib.auth import get_user_model
from django.core.management.base import BaseCommand, CommandError, CommandParser, DjangoHelpFormatter
from django.core.management.color import no_style
from django.db import Error
from django.utils.module_loading import import_string

from notifications.db import missing_tables
from notifications.db.sqlstates import is_missing
from notifications.db.unavailable import OUTAGES, is_unavailable
from notifications.extension import hooks, shipped
from notifications.management.output import EscapingOutput, OutputFailed, ProgressLine, escaping

#: The exit codes of a program that ends by SIGINT or SIGPIPE, as shells report them.
INTERRUPTED, CLOSED_PIPE = 130, 141
UNUSABLE_REMEDY = "Correct the class, or remove its app from INSTALLED_APPS."
#: The variables of the environment with which an example begins, and its arguments.
EXAMPLE = re.compile(r"((?:[A-Z_]+=\S+ ?)*)(.*)")


class HelpFormatter(DjangoHelpFormatter):
    """Wraps the description and keeps the lines of the examples."""

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        if text.startswith("Examples:"):
            return RawDescriptionHelpFormatter._fill_text(self, text, width, indent)
        return super()._fill_text(text, width, indent)


class ManagementCommand(BaseCommand):
    """A command of the app, or a subcommand of ``manage.py notifications``.

    ``examples`` are the arguments of calls that ``--help`` shows, without ``manage.py`` and the command's name.
    Variables of the environment may precede them.
    On the command line it exits with 130 at Ctrl-C and with 141 when the program that reads its output has ended.
    """

    examples: ClassVar[tuple[str, ...]] = ()
    style: Any  # Style of Django, or no_style()
    _stdout: EscapingOutput
    _stderr: EscapingOutput

    @property
    def stdout(self) -> EscapingOutput:  # type: ignore[override]
        """Standard output, which escapes control characters."""
        return self._stdout

    @stdout.setter
    def stdout(self, output: Any) -> None:
        self._stdout = escaping(output)

    @property
    def stderr(self) -> EscapingOutput:  # type: ignore[override]
        """Standard error, which escapes control characters and colors what is written by ``write()`` red."""
        return self._stderr

    @stderr.setter
    def stderr(self, output: Any) -> None:
        self._stderr = escaping(output)

    def create_parser(self, prog_name: str, subcommand: str, **kwargs: Any) -> CommandParser:
        """Return the parser, with the examples below the options."""
        kwargs.setdefault("formatter_class", HelpFormatter)
        kwargs.setdefault("epilog", self.epilog(subcommand))
        return super().create_parser(prog_name, subcommand, **kwargs)

    def report(self, options: Any, text: str, **fields: Any) -> None:
        """Print what a verb of ``jobs`` has done: the text, or with ``--json`` these fields."""
        self.stdout.write(json.dumps(fields) if options["json"] else text)

    def progress(self, noun: str, total: int | None = None) -> ProgressLine:
        """Return a line of progress for the length of a ``with`` block, by whose ``add()`` things are counted."""
        return ProgressLine(noun, total)

    @staticmethod
    def job_id(text: str) -> UUID:
        """Return the id of a job from an argument. Raises ``ArgumentTypeError``: pass it as ``type`` of an argument."""
        try:
            return UUID(text)
        except ValueError as exc:
            raise ArgumentTypeError(
                f"{text[:100]!r} is not an id. An id is a UUID, as printed by `manage.py notifications jobs list`."
            ) from exc

    @staticmethod
    def user_key_of(username: str) -> Any:
        """Return the key of the user with this name. Raises ``CommandError`` if there is none."""
        users = get_user_model()
        try:
            return users._default_manager.get_by_natural_key(username).pk
        except users.DoesNotExist as exc:
            raise CommandError(
                f"There is no user {username!r}. Check the spelling of the {users.USERNAME_FIELD}."
            ) from exc

    @staticmethod
    def no_such_job(job: UUID) -> CommandError:
        """Return the error for a job that does not exist."""
        return CommandError(
            f"There is no job {job}. It may have been pruned; "
            "`manage.py notifications jobs list` shows the existing ones."
        )

    @staticmethod
    def common_options() -> CommandParser:
        """Return a parser of the options of every Django command, for parsers of subcommands to inherit.

        They have no defaults, so that ``manage.py notifications -v 2 doctor`` and ``… doctor -v 2`` mean the same.
        """
        parser = BaseCommand().create_parser("", "", add_help=False, argument_default=SUPPRESS)
        for action in parser._actions:
            action.default = SUPPRESS
            action.help = SUPPRESS
        return parser

    def epilog(self, name: str) -> str:
        """Return the examples as a block of lines; ``name`` is what follows ``manage.py``."""
        lines = []
        for example in self.examples:
            variables, arguments = EXAMPLE.fullmatch(example).groups()  # type: ignore[union-attr]
            prefix = f"{variables.strip()} " if variables else ""
            lines.append(f"  {prefix}manage.py {name} {arguments}".rstrip())
        return "\n".join(["Examples:", *lines]) if lines else ""

    def add_examples(self, verbs: Any) -> None:
        """Show in the help of each verb, of what ``add_subparsers`` returned, the examples that begin with it."""
        for verb, parser in verbs.choices.items():
            calls = [
                f"{parser.prog[: -len(verb)]}{example}"
                for example in self.examples
                if example.split()[0] == verb
            ]
            parser.formatter_class = HelpFormatter
            parser.epilog = "\n".join(
                ["Examples:", *(f"  manage.py {call.removeprefix('manage.py ')}" for call in calls)]
            )

    def run_from_argv(self, argv: list[str]) -> None:
        """Run the command with the arguments of the command line, and exit if it is interrupted."""
        if sys.stderr is None:  # 2>&-
            sys.stderr = open(os.devnull, "w")  # noqa: SIM115
            self.stderr = sys.stderr
        if sys.stdout is None:  # >&-
            self.stderr.write("Standard output is closed.")
            sys.exit(1)
        # Where the encoding of the environment is not UTF-8, Python keeps other bytes as lone surrogates.
        argv = [os.fsencode(argument).decode(errors="replace") for argument in argv]
        try:
            try:
                super().run_from_argv(argv)
            finally:
                flush_output()
        except KeyboardInterrupt:
            sys.exit(INTERRUPTED)
        except BrokenPipeError:
            discard_output()
            sys.exit(CLOSED_PIPE)
        except OutputFailed as exc:
            discard_output()
            self.stderr.write(f"The output could not be written: {exc}.")
            sys.exit(1)

    def check(self, *args: Any, **options: Any) -> Any:
        """Run system checks. Their issues have no color: Django adds it before they are written and so escaped."""
        with self._without_style():
            return super().check(*args, **options)

    def check_migrations(self) -> None:
        """Write which migrations are not applied, without color for the same reason."""
        with self._without_style():
            super().check_migrations()

    @contextmanager
    def _without_style(self) -> Iterator[None]:
        style = self.style
        self.style = no_style()
        try:
            yield
        finally:
            self.style = style

    def execute(self, *args: Any, **options: Any) -> Any:
        """Run the command. Errors of the database, and lack of a resource, are errors of the command."""
        try:
            return super().execute(*args, **options)
        except OUTAGES as exc:
            if isinstance(exc, Error):
                raise CommandError(f"Database error: {explain_error(exc)}") from exc
            if is_unavailable(exc):
                raise CommandError(f"A resource is not available: {explain_error(exc)}") from exc
            raise


#: What is wrong with the subcommands of extensions that cannot be used, by their names.
unusable: dict[str, str] = {}


def with_extensions(
    commands: Mapping[str, type[ManagementCommand]], *, below: str = ""
) -> dict[str, type[ManagementCommand]]:
    """Return these subcommands, or verbs ``below`` one, and those of extensions by name.

    One of an extension that cannot be used is left out, and what is wrong with it is in ``unusable``.
    """
    found = dict(commands)
    for name, path in hooks.subcommands.items():
        subcommand, _, verb = name.rpartition(" ")
        if subcommand == below:
            try:
                found[verb] = _import_subcommand(
                    path, commands.get(verb, ManagementCommand), is_verb=bool(below)
                )
            except Exception as exc:  # a module of an extension may raise anything
                problem = (
                    f"The subcommand {name!r} is {path}, which cannot be used: {type(exc).__name__}: {exc}"
                )
                unusable[name] = f"{problem.rstrip('.')}."
    return found


def _import_subcommand(path: str, base: type[ManagementCommand], *, is_verb: bool) -> type[ManagementCommand]:
    command = import_string(path)
    if not isinstance(command, type) or not issubclass(command, base):
        raise TypeError(f"It is no subclass of {base.__module__}.{base.__qualname__}.")
    parser = CommandParser(parents=[base.common_options()])
    command().add_arguments(parser)
    if is_verb:
        parser.add_argument("--json")  # as ``jobs`` adds it to all of them
    return command


def add_missing(subparsers: Any, known: Mapping[str, Any], *, below: str = "") -> None:
    """Accept subcommands of extensions that are not known, with any arguments.

    The help has those that cannot be used, and not those of the app's own extensions that are not installed.
    The command calls ``refuse_missing()`` with the name of a subcommand that it does not know.
    """
    for name in dict.fromkeys((*unusable, *shipped.list_subcommands())):
        subcommand, _, verb = name.rpartition(" ")
        if subcommand == below and verb not in known:
            shown = {"help": "cannot be used: call it to read why"} if name in unusable else {}
            parser = subparsers.add_parser(
                verb, add_help=False, prefix_chars="\0", **shown
            )  # it has no options
            parser.add_argument("arguments", nargs=REMAINDER)


def refuse_missing(name: str) -> NoReturn:
    """Raise CommandError with the remedy. ``name`` is that of a subcommand, or of a verb and what it is below."""
    if problem := unusable.get(name):
        raise CommandError(f"{problem} {UNUSABLE_REMEDY}")
    remedy = shipped.describe_remedy(shipped.find_app_of_subcommand(name))
    raise CommandError(f"The app of {name!r} is not installed. {remedy}")


def flush_output() -> None:
    """Write what is buffered. Raises ``OutputFailed``, and ``BrokenPipeError`` when its reader has ended."""
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        raise
    except OSError as exc:
        raise OutputFailed(exc.strerror or str(exc)) from exc


def discard_output() -> None:
    """Discard what is buffered: Python writes it at its exit, which would fail again."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def explain_error(exc: BaseException) -> str:
    """Return what the database has said, with the remedy."""
    reason = " ".join(str(exc).split())[:300] or type(exc).__name__
    remedy = missing_tables.describe_remedy() if is_missing(exc) else "Try again."
    return f"{reason.rstrip('.')}. {remedy}"
