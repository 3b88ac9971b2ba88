"""``manage.py notifications vapid``: print the key by which push services recognize the site."""

from __future__ import annotations

import json
from argparse import ArgumentParser
from typing import Any

from django.core.exceptions import ImproperlyConfigured
from django.core.management.base import CommandError

from notifications.deliveries import vapid
from notifications.management.management_command import ManagementCommand


class VapidCommand(ManagementCommand):
    help = "Print the public key for push, or a new private key where the settings have none."
    examples = ("", "--new")

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--new", action="store_true", help="a new key, although the settings have one")

    def handle(self, *args: Any, new: bool, **options: Any) -> None:
        try:
            if vapid.is_configured() and not new:
                self.stdout.write(vapid.public_key())
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
