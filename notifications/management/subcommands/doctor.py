"""``manage.py notifications doctor``: check the database, the channel layer and the workers."""

from __future__ import annotations

import json
from argparse import ArgumentParser
from collections.abc import Iterator
from typing import Any

from django.core.checks import ERROR
from django.core.management.base import CommandError
from django.db import Error

from notifications.management.diagnosis import diagnose
from notifications.management.diagnosis.checking import Examination, FindingLine
from notifications.management.diagnosis.database import check_tables
from notifications.management.management_command import ManagementCommand, explain_error
from notifications.streams.positions import begin_epoch
from notifications.streams.rebuilding import find_wrong_counts, find_wrong_streams, rebuild, recount


class DoctorCommand(ManagementCommand):
    help = (
        "Check the database, the channel layer and the workers, and run a job that does nothing. "
        "The exit code is 1 if a check fails."
    )
    examples = (
        "",
        "--json",
        "--live",
        "--origin https://example.com",
        "--recount",
    )
    # A check of manage.py check that fails must not keep these from running.
    requires_system_checks = ()

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--json", action="store_true", help="print one JSON object per line")
        parser.add_argument(
            "--live",
            action="store_true",
            help="for probes: check only whether the database takes writes, is migrated, and a worker is alive",
        )
        parser.add_argument(
            "--timeout", type=float, default=10.0, metavar="SECONDS", help="seconds to wait for the job (10)"
        )
        parser.add_argument(
            "--origin",
            metavar="https://HOST",
            help="also check whether pages of this origin may open a WebSocket",
        )
        parser.add_argument(
            "--recount",
            action="store_true",
            help="first rebuild streams that do not agree with their rows, with a new epoch, and correct wrong "
            "unread and unseen counts",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        if not 0 < options["timeout"] <= 3600:
            raise CommandError(f"--timeout is {options['timeout']:g}. It must be above 0 and at most 3600.")
        failed = []
        for finding in self.find(options):
            if options["json"]:
                self.stdout.write(json.dumps(finding._asdict()))
            else:
                self.print_finding(finding)
            if finding.state == "error":
                failed.append(finding.check)
        if failed:
            raise CommandError(f"Checks failed: {', '.join(failed)}.")

    def find(self, options: dict[str, Any]) -> Iterator[FindingLine]:
        """Run the checks that the options name."""
        if options["live"]:
            if options["origin"] or options["recount"]:
                raise CommandError("--live checks nothing else. Run doctor again for --origin and --recount.")
            return diagnose("live")
        if options["recount"]:
            self.correct_counts()
        return diagnose(timeout=options["timeout"], page=options["origin"])

    def print_finding(self, finding: FindingLine) -> None:
        style = {"ok": self.style.SUCCESS, "warning": self.style.WARNING, "error": self.style.ERROR}
        self.stdout.write(f"{finding.state:<7}", style[finding.state], ending="")
        self.stdout.write_line(f"  {finding.check:<10}  {finding.ms:>7.1f} ms  {finding.message}")
        if finding.remedy:
            self.stdout.write_line(f"{'':33}{finding.remedy}")

    def correct_counts(self) -> None:
        try:
            for problem in check_tables(Examination()):
                if problem.level >= ERROR:
                    raise CommandError(f"Nothing was corrected. {problem.msg} {problem.hint}")
            if users := find_wrong_streams():
                self.stderr.write_plain(
                    f"Began a new epoch, so that all clients start from a snapshot: {begin_epoch()}."
                )
            for user in users:
                before, head, moved = rebuild(user)
                self.stderr.write_plain(
                    f"Rebuilt the stream of user {user} from the rows: it ends at {head}, not {before}, "
                    f"and {moved} rows have a position of their own again."
                )
            for user, (stored, expected) in find_wrong_counts().items():
                recount(user)
                self.stderr.write_plain(
                    f"Corrected the counts of user {user} from {stored.unread} unread and {stored.unseen} unseen "
                    f"to {expected.unread} and {expected.unseen}."
                )
        except Error as exc:
            raise CommandError(f"Not all counts were corrected: {explain_error(exc)}") from exc
