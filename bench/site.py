"""A new site in a temporary folder, by default on SQLite with the options of ``make run``."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path


def fresh(database: str = "") -> Path:
    """Set up Django with an empty database, migrate it and return its folder. Child processes use the same database.

    ``database`` is the URL of another database than one in the folder.
    """
    folder = Path(tempfile.mkdtemp(prefix="bench-"))
    os.environ.update(
        DJANGO_SETTINGS_MODULE="bench.settings",
        DATABASE_URL=database or f"sqlite:///{folder}/db.sqlite3",
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
