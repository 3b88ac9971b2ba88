"""``manage.py notify USERNAME… TITLE``: notify users from a terminal or a script."""

from __future__ import annotations

import json
import sys
from argparse import ArgumentParser
from collections.abc import Sequence
from typing import Any

from django.contrib.auth import get_user_model
from django.core.exceptions import FieldDoesNotExist, FieldError
from django.core.management.base import CommandError
from django.db import Error
from django.db.models import Q

from notifications.api import notify
from notifications.db.transactions import MAX_ROWS_PER_TRANSACTION, chunks
from notifications.management.management_command import ManagementCommand, explain_error
from notifications.models import Notification

#: Characters of standard input that are read; longer than any body may be.
MAX_INPUT_CHARACTERS = 10_000
#: Unknown names that a message has at most.
MAX_NAMES_SHOWN = 10


class Command(ManagementCommand):
    help = "Notify users. The notification is pushed to their browsers. Prints its ids, or how many users got it."
    examples = (
        'ada "Backup done" --body "14 GB" --url /backups/ --level success --key backup',
        'ada bob "Meeting at 10"',
        '--group editors --staff "Maintenance at 18:00" --level warning',
        'ada "Log of the night" --body - < summary.txt',
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        name = get_user_model().USERNAME_FIELD
        parser.add_argument("usernames", nargs="*", metavar="USERNAME", help=f"the {name} of each user")
        parser.add_argument("title", metavar="TITLE", help="at most 200 characters")
        parser.add_argument(
            "--group",
            action="append",
            default=[],
            metavar="NAME",
            help="the group's active users; repeatable",
        )
        parser.add_argument("--staff", action="store_true", help="active users who are staff")
        parser.add_argument("--body", default="", help="at most 2,000 characters; - reads standard input")
        parser.add_argument("--url", help="a path that begins with one '/', or an http(s) address")
        parser.add_argument("--level", choices=Notification.Level.values, default="info")
        parser.add_argument("--key", default="", help="archives the unread notifications with the same key")
        parser.add_argument("--json", action="store_true", help="print one JSON object per notification")

    def handle(self, *args: Any, usernames: list[str], title: str, **options: Any) -> None:
        is_audience = bool(options["group"] or options["staff"])
        if not (usernames or is_audience):
            raise CommandError("Name a user, or use --group or --staff. See notify --help.")
        try:
            users = find_named_users(usernames)
            if is_audience:
                users = list(dict.fromkeys([*users, *find_members(options["group"], staff=options["staff"])]))
        except Error as exc:
            raise CommandError(f"Nothing was sent: {explain_error(exc)}") from exc
        if not users:
            raise CommandError("Nothing was sent: no active user is in these groups.")
        fields = {name: options[name] for name in ("body", "url", "level", "key")}
        if fields["body"] == "-":
            try:
                fields["body"] = sys.stdin.read(MAX_INPUT_CHARACTERS).rstrip()
            except UnicodeDecodeError as exc:
                raise CommandError(
                    f"Nothing was sent. Standard input is not encoded as {exc.encoding}. Set PYTHONIOENCODING=utf-8."
                ) from exc
        self.send(users, title, fields, prints_ids=not is_audience, as_json=options["json"])

    def send(
        self, users: list[Any], title: str, fields: dict[str, Any], *, prints_ids: bool, as_json: bool
    ) -> None:
        """Notify users in chunks, each in a short transaction, and print what was created."""
        sent = 0
        try:
            with self.progress("users", len(users)) as progress:
                for chunk in chunks(users, MAX_ROWS_PER_TRANSACTION):
                    ids = notify(chunk, title, **fields)
                    sent += len(ids)
                    progress.add(len(ids))
                    for user, id in zip(chunk, ids, strict=True):
                        if as_json:
                            self.stdout.write(json.dumps({"id": str(id), "user": str(user)}))
                        elif prints_ids:
                            self.stdout.write(str(id))
        except (TypeError, ValueError) as exc:
            raise CommandError(f"Nothing was sent. {exc}") from exc
        except (Error, KeyboardInterrupt) as exc:
            if not sent and isinstance(exc, Error):
                raise CommandError(f"Nothing was sent: {explain_error(exc)}") from exc
            self.stderr.write(f"Only {sent:,} of {len(users):,} users were notified.")
            if isinstance(exc, KeyboardInterrupt):
                raise
            raise CommandError(f"{exc}. Running it again with --key replaces what is unread.") from exc
        if not prints_ids and not as_json:
            self.stdout.write(f"{sent:,} users notified." if sent != 1 else "1 user notified.")


def find_named_users(usernames: Sequence[str]) -> list[Any]:
    """Return the keys of users, in the order of their names, each once. Raises CommandError for unknown names."""
    users = get_user_model()
    keys, unknown = [], []
    for name in dict.fromkeys(usernames):
        try:
            keys.append(users._default_manager.get_by_natural_key(name).pk)
        except users.DoesNotExist:
            unknown.append(repr(name))
    if unknown:
        named = ", ".join(unknown[:MAX_NAMES_SHOWN]) + (
            " and others" if len(unknown) > MAX_NAMES_SHOWN else ""
        )
        raise CommandError(
            f"There is no user {named}. Check the spelling of the {users.USERNAME_FIELD}, or create the user first. "
            "Nothing was sent."
        )
    return keys


def find_members(groups: Sequence[str], *, staff: bool) -> list[Any]:
    """Return the keys of the active users in any of these groups, and of active staff if ``staff``.

    Raises CommandError for an unknown group, and for a user model without groups or staff.
    """
    users = get_user_model()
    try:
        if groups:
            model = users._meta.get_field("groups").related_model
            known = set(model._default_manager.filter(name__in=groups).values_list("name", flat=True))
            if unknown := [repr(name) for name in dict.fromkeys(groups) if name not in known]:
                raise CommandError(
                    f"There is no group {', '.join(unknown)}. Check the spelling. Nothing was sent."
                )
        condition = Q(groups__name__in=groups) if groups else Q()
        if staff:
            condition |= Q(is_staff=True)
        rows = users._default_manager.filter(condition, is_active=True)
        return list(rows.order_by("pk").values_list("pk", flat=True).distinct())
    except (FieldDoesNotExist, FieldError) as exc:
        raise CommandError(f"The user model has no such users: {exc}. Nothing was sent.") from exc
