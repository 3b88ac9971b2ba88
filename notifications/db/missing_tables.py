"""What to do where tables are missing: migrate, unless the database is one of SQLite in memory."""

from django.db import connections

#: The name of a database of which each connection, and so each thread and process, has one of its own.
IN_MEMORY = ":memory:"
FILE_REMEDY = 'Use a file: "NAME": BASE_DIR / "db.sqlite3". That of tests is shared by its connections.'


def has_database_in_memory() -> bool:
    """Return whether a database of the project is such a one. No connection is opened."""
    return any(str(options["NAME"]) == IN_MEMORY for options in connections.settings.values())


def describe_remedy() -> str:
    """Return the sentences that say what to do."""
    if has_database_in_memory():
        return (
            f"{IN_MEMORY} is a database for each connection, and migrate has used another one. {FILE_REMEDY}"
        )
    return "Run manage.py migrate."
