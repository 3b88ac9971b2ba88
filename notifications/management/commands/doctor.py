"""``manage.py doctor``: whether database, layer and workers do what they should."""

from __future__ import annotations

import json
from argparse import ArgumentParser
from dataclasses import asdict
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.db import Error

from notifications.db.transactions import turn_autocommit_on
from notifications.diagnosis import ERROR, Finding, database, diagnose
from notifications.streams import recount as counting


class Command(BaseCommand):
    help = (
        "Look at the database, the channel layer and the workers, and have a job that does nothing run. "
        "The exit code is 1 if something is wrong."
    )
    # What manage.py check finds is said below, with the rest.
    requires_system_checks = ()

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--json", action="store_true", help="a JSON object a line")
        parser.add_argument(
            "--patience", type=float, default=10.0, metavar="SECONDS", help="wait so long for the job (10)"
        )
        parser.add_argument(
            "--origin", metavar="https://HOST", help="also: may pages of this origin open a WebSocket?"
        )
        parser.add_argument(
            "--recount",
            action="store_true",
            help="first make the number right on each bell where it is wrong",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        if self._called_from_command_line:
            turn_autocommit_on()
        if not 0 < options["patience"] <= 3600:
            raise CommandError(
                f"--patience is {options['patience']:g}. It must be over 0, and 3600 s at most."
            )
        if options["recount"]:
            self.recount()
        wrong = []
        for finding in diagnose(patience=options["patience"], page=options["origin"]):
            if options["json"]:
                self.stdout.write(json.dumps(asdict(finding)))
            else:
                self.say(finding)
            if finding.state == ERROR:
                wrong.append(finding.what)
        if wrong:
            raise CommandError(f"Something is wrong: {', '.join(wrong)}.")

    def say(self, finding: Finding) -> None:
        style = {"ok": self.style.SUCCESS, "warning": self.style.WARNING, "error": self.style.ERROR}
        self.stdout.write(
            f"{style[finding.state](f'{finding.state:<7}')}  {finding.what:<10}  {finding.words}"
        )
        if finding.remedy:
            self.stdout.write(f"{'':21}{finding.remedy}")

    def recount(self) -> None:
        try:
            if (tables := database.migrated()).state == ERROR:
                raise CommandError(f"Nothing is counted. {tables.words} {tables.remedy}")
            for user, (unread, right) in counting.find_wrong_counts().items():
                counting.recount(user)
                self.stderr.write(f"The bell of user {user} said {unread}; it is {right} now.")
        except Error as exc:
            raise CommandError(f"Not all is counted: the database is away ({exc}). Try again.") from exc
