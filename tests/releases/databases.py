"""The databases of the releases, files of SQLite and dumps of PostgreSQL, and the statements of their workers."""

import json
import shutil
import sqlite3
import subprocess
from contextlib import closing
from pathlib import Path

from tests.support.postgres import PROGRAM_PATTERNS
from tests.support.requirements import find_program

FOLDER = Path(__file__).resolve().parent
CALL = "from tests.releases import rows; rows.{}({})"
SQLITE, POSTGRES = "database.sqlite3", "database.sql"


STATEMENTS = {vendor: f"statements.{vendor}.json" for vendor in ("sqlite", "postgresql")}


def vendor_of(site):
    return "sqlite" if site.database_url.startswith("sqlite") else "postgresql"


def releases():
    """Return the versions of which there is a database."""
    return sorted(path.parent.name for path in FOLDER.glob(f"*/{SQLITE}"))


def find_commit(version):
    """Return the commit with which the database of a version came, which has its code, or None without the history."""
    if run_git("rev-parse", "--is-shallow-repository") != "false":
        return None  # a shallow clone names its oldest commit, which is a later one; or it is no clone
    return run_git("log", "-1", "--format=%H", "--", version) or None


def run_git(*arguments):
    """Return the output of a command of git, which is empty if it fails."""
    return subprocess.run(["git", *arguments], cwd=FOLDER, capture_output=True, text=True).stdout.strip()


def check_out(commit, folder):
    """Write what a site needs of the files of a commit into a folder."""
    paths = ["manage.py", "asyncsite", "notifications", "tests"]
    command = ["git", "archive", "--output", f"{folder}.tar", commit, *paths]
    subprocess.run(command, cwd=FOLDER.parent.parent, check=True)
    shutil.unpack_archive(f"{folder}.tar", folder, filter="data")


def save(site, folder):
    """Create the rows in a site that has its tables and users, and save its database and what is read of it."""
    site.notifications |= {"WEBHOOKS": True}
    folder.mkdir(exist_ok=True)
    recorded = site.folder / "recorded"
    settings = site.environment["DJANGO_SETTINGS_MODULE"]
    site.environment |= {
        "DJANGO_SETTINGS_MODULE": "tests.releases.recording",
        "RECORDED_STATEMENTS": str(recorded),
    }
    site.python(CALL.format("enqueue", ""))
    site.manage("run_jobs", "--until-idle")
    site.environment["DJANGO_SETTINGS_MODULE"] = settings
    by_form = dict(map(json.loads, recorded.read_text().splitlines()))
    (folder / STATEMENTS[vendor_of(site)]).write_text(json.dumps(sorted(by_form.values()), indent=0) + "\n")
    site.python(CALL.format("fill", ""))
    if site.database_url.startswith("sqlite"):
        name, file = "sqlite.json", folder / SQLITE
        file.unlink(missing_ok=True)
        with closing(sqlite3.connect(site.database_url.removeprefix("sqlite:///"))) as connection:
            connection.execute("PRAGMA journal_mode = DELETE")
            connection.execute("PRAGMA page_size = 512")
            connection.execute(f"VACUUM INTO '{file}'")
    else:
        name = "postgresql.json"
        program = find_program(
            "pg_dump",
            package="postgresql-client",
            patterns=[each.format("pg_dump") for each in PROGRAM_PATTERNS],
        )
        command = [program, "--no-owner", "--no-privileges", site.database_url]
        text = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        # What only this version of psql and of the server knows.
        lines = [line for line in text.splitlines() if not line.startswith(("\\restrict", "\\unrestrict"))]
        text = "\n".join(line for line in lines if not line.startswith("SET transaction_timeout"))
        (folder / POSTGRES).write_text(f"{text}\n")
    (folder / name).write_text(site.python(CALL.format("read", "")))
