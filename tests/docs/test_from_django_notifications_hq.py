"""The page for users of django-notifications-hq, on a database that has its table and its recorded migrations."""

import json
import sqlite3
from contextlib import closing

import pytest

from tests.docs.pages import DOCS, blocks
from tests.docs.project import Project

pytestmark = pytest.mark.timeout(300)

PAGE = DOCS / "how-to/from-django-notifications-hq.md"
READ = """
from notifications.models import Notification
print(list(Notification.objects.values_list("user__username", "title", "level", "url")))
"""


def test_tables_of_django_notifications_hq_give_way(tmp_path):
    """Its table and recorded migrations are refused, and after the SQL of the page the saved rows are read."""
    *_, block = blocks(PAGE, "python")
    [sql] = blocks(PAGE, "sql")
    project = Project(tmp_path)
    project.add_settings('DATABASES["default"]["NAME"] = BASE_DIR / "other.sqlite3"\n')
    database = project.folder / "other.sqlite3"
    with closing(sqlite3.connect(database)) as connection:
        connection.executescript(
            "CREATE TABLE django_migrations (id INTEGER PRIMARY KEY, app TEXT, name TEXT, applied TEXT);"
            "INSERT INTO django_migrations (app, name, applied) VALUES ('notifications', '0001_initial', '2023-10-01');"
            "CREATE TABLE notifications_notification (id INTEGER PRIMARY KEY, verb TEXT);"
        )
    code, _, errors = project.try_command("migrate", "--verbosity", "0")
    assert code == 1 and "notifications.E001" in errors
    with closing(sqlite3.connect(database)) as connection:
        connection.executescript(sql)
    project.manage("migrate", "--verbosity", "0")
    create = "from django.contrib.auth.models import User; print(User.objects.create_user('ada').pk)"
    ada = int(project.manage("shell", "--no-imports", "-c", create).split()[-1])
    row = {
        "user": ada,
        "title": "Bob commented on Report 7",
        "body": "",
        "level": "info",
        "url": "/reports/7/",
    }
    (project.folder / "saved.json").write_text(json.dumps([row]))
    project.manage("shell", "--no-imports", "-c", block)
    assert (
        project.manage("shell", "--no-imports", "-c", READ).splitlines()[-1]
        == "[('ada', 'Bob commented on Report 7', 'info', '/reports/7/')]"
    )
