"""``manage.py notifications explain``, why users were notified or were not, and ``vapid``, the key for push."""

from __future__ import annotations

import json
import re
from argparse import ArgumentParser
from datetime import timedelta
from typing import Any

from django.core.exceptions import ImproperlyConfigured
from django.core.management.base import CommandError
from django.db.models.functions import Coalesce
from django.utils import timezone, translation

from notifications import times
from notifications.conf import settings
from notifications.contrib.deliveries import vapid
from notifications.db import database
from notifications.inbox import read_timeline
from notifications.management import ManagementCommand
from notifications.models import Notification, parse_id

#: Notifications of a user that one call explains at most.
MAX_NOTIFICATIONS = 100


#: What ``--since`` takes: a number of one of these units.
AGE = re.compile(r"([0-9]{1,4})([dhm])", re.ASCII)
UNITS = {"d": "days", "h": "hours", "m": "minutes"}


class ExplainCommand(ManagementCommand):
    help = (
        "Print what happened to notifications: when they were read, and which e-mails were sent, or why not."
    )
    examples = ("0198f4d2-7c1e-7b3a-9d54-3f1b6a0c8e21", "--user ada --since 1d")

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("id", nargs="?", help="the id of a notification")
        parser.add_argument("--user", metavar="USERNAME", help="those of this user, the newest last")
        parser.add_argument(
            "--since", metavar="TIME", default="1d", help="with --user: as long ago as 1d, 12h or 30m (1d)"
        )

    def handle(self, *args: Any, id: str | None, user: str | None, since: str, **options: Any) -> None:
        if (id is None) == (user is None):
            raise CommandError("Name one notification by its id, or a user: explain --user ada.")
        rows = self.read_one(id) if id is not None else self.read_those_of(str(user), since)
        # In one language, as the output of all commands.
        with translation.override("en"):
            for row in rows:
                self.print_timeline(row)

    def read_one(self, id: str) -> list[Notification]:
        """Return the notification with an id. Raises CommandError."""
        if (key := parse_id(id)) is None:
            raise CommandError(f"{id!r} is not an id. Copy that of the notification from the admin.")
        rows = list(Notification.objects.using(database()).filter(pk=key))
        if not rows:
            raise CommandError(
                f"There is no notification {key}. It may have been pruned after its retention."
            )
        return rows

    def read_those_of(self, username: str, since: str) -> list[Notification]:
        """Return the newest notifications of a user, the oldest first. Raises CommandError."""
        after = times.now() - parse_age(since)
        rows = Notification.objects.using(database()).filter(user=self.user_key_of(username))
        rows = rows.annotate(shown_since=Coalesce("returned_at", "created_at")).filter(shown_since__gte=after)
        newest = rows.order_by("-shown_since", "-id")[:MAX_NOTIFICATIONS]
        if not newest:
            self.stderr.write_plain(f"{username} has got no notification for so long: --since {since}.")
        return list(reversed(newest))

    def print_timeline(self, row: Notification) -> None:
        self.stdout.write_line(f"{row.pk} {row.title}")
        for event in read_timeline(row):
            at = timezone.localtime(event.at).strftime("%Y-%m-%d %H:%M:%S") if event.at else " " * 19
            self.stdout.write_line(f"  {at}  {event.text}")


def parse_age(text: str) -> timedelta:
    """Return the time that ``--since`` names. Raises CommandError."""
    match = AGE.fullmatch(text)
    if match is None or not int(match[1]):
        raise CommandError(f"--since is {text}. It must be a number and a unit: 1d, 12h or 30m.")
    return timedelta(**{UNITS[match[2]]: int(match[1])})


class VapidCommand(ManagementCommand):
    help = "Print the public key for push, or a new private key where the settings have none."
    examples = ("", "--new")

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--new", action="store_true", help="a new key, although the settings have one")

    def handle(self, *args: Any, new: bool, **options: Any) -> None:
        try:
            if settings.WEB_PUSH and not new:
                self.stdout.write(vapid.public_key(vapid.private_key()))
                return
            key = vapid.generate_private_key()
        except ImproperlyConfigured as exc:
            raise CommandError(str(exc)) from exc
        self.stderr.write_plain(
            "Add this to NOTIFICATIONS in the settings, with an address at which operators of push services reach you. "
            "Keep the key secret, and keep it: with another one all browsers must subscribe anew."
        )
        example = {"private_key": key, "subject": "mailto:admin@example.com"}
        self.stdout.write(f'"WEB_PUSH": {json.dumps(example)},')
