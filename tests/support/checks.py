"""What `manage.py check` and `notifications doctor` find.

[error] = system_checks("E002", "E003")     # messages with these ids; all of them without one
[finding] = doctor("shares")                # the same for findings, each a dict
"""

import json
from contextlib import nullcontext, suppress
from io import StringIO
from unittest.mock import patch

from django.core.checks import run_checks
from django.core.management import CommandError, call_command
from django.db import connection


def system_checks(*ids, tags=("notifications",), **options):
    ids = {f"notifications.{id}" for id in ids}
    return [message for message in run_checks(tags=tags, **options) if message.id in ids or not ids]


def doctor(*names, **options):
    out = StringIO()
    # PostgreSQL keeps the message to the doorbell until the transaction of a test ends. The error names failed checks.
    short = patch("notifications.realtime.doorbell.postgres.TIMEOUT_SECONDS", 0.01)
    with short if connection.in_atomic_block else nullcontext(), suppress(CommandError):
        call_command("notifications", "doctor", json=True, timeout=0.1, stdout=out, **options)
    findings = map(json.loads, out.getvalue().splitlines())
    return [finding for finding in findings if finding["check"] in names or not names]
