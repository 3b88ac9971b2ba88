"""A new site in a temporary folder, on SQLite with the options of ``make run``."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path


def fresh() -> Path:
    """Set up Django with an empty migrated database and return its folder. Child processes use the same database."""
    folder = Path(tempfile.mkdtemp(prefix="bench-"))
    os.environ.update(
        DJANGO_SETTINGS_MODULE="bench.settings",
        DATABASE_URL=f"sqlite:///{folder}/db.sqlite3",
        SECRET_KEY="only for a measurement",
        DEBUG="0",
        EMBEDDED_WORKER="0",
        ALLOWED_HOSTS="127.0.0.1",
    )
    import django
    from django.core.management import call_command

    django.setup()
    call_command("migrate", verbosity=0)
    return folder
