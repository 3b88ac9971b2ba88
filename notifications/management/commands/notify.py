"""``manage.py notify USERNAME TITLE``: notify a user from a terminal or a script."""

from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from django.contrib.auth import get_user_model
from django.core.management.base import CommandError
from django.db import Error

from notifications.api import notify
from notifications.management.management_command import ManagementCommand
from notifications.models import Notification


class Command(ManagementCommand):
    help = "Notify a user. The notification is pushed to their browsers. Prints its id."
    examples = ('ada "Backup done" --body "14 GB" --url /backups/ --level success --key backup',)

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("username")
        parser.add_argument("title", help="at most 200 characters")
        parser.add_argument("--body", default="", help="at most 2,000 characters")
        parser.add_argument("--url", help="a path that begins with one '/', or an http(s) address")
        parser.add_argument("--level", choices=Notification.Level.values, default="info")
        parser.add_argument("--key", default="", help="archives the unread notifications with the same key")

    def handle(self, *args: Any, username: str, title: str, **options: Any) -> None:
        users = get_user_model()
        try:
            user = users._default_manager.get_by_natural_key(username)
        except users.DoesNotExist as exc:
            raise CommandError(
                f"There is no user {username!r}. Check the spelling, or create the user first."
            ) from exc
        fields = {name: options[name] for name in ("body", "url", "level", "key")}
        try:
            (id,) = notify(user, title, **fields)
        except (TypeError, ValueError) as exc:
            raise CommandError(f"Nothing was sent. {exc}") from exc
        except Error as exc:
            raise CommandError(f"Nothing was sent: {exc}. Try again.") from exc
        self.stdout.write(str(id))
