"""What `manage.py check` and `notifications doctor` find.

[error] = system_checks("E002", "E003")     # messages with these ids; all of them without one
[finding] = doctor("shares")                # the same for findings, each a dict
"""

import json
from contextlib import suppress
from io import StringIO

from django.core.checks import run_checks
from django.core.management import CommandError, call_command


def system_checks(*ids, tags=("notifications",), **options):
    ids = {f"notifications.{id}" for id in ids}
    return [message for message in run_checks(tags=tags, **options) if message.id in ids or not ids]


def doctor(*names, **options):
    out = StringIO()
    with suppress(CommandError):  # it names checks that have failed
        call_command("notifications", "doctor", json=True, timeout=0.1, stdout=out, **options)
    findings = map(json.loads, out.getvalue().splitlines())
    return [finding for finding in findings if finding["check"] in names or not names]
