"""What operators see of a job."""

import json
from io import StringIO

from django.core.management import call_command


def show_job(id):
    """Return what `manage.py notifications jobs show --json` prints."""
    out = StringIO()
    call_command("notifications", "jobs", "show", str(id), "--json", stdout=out)
    return json.loads(out.getvalue())
