"""The commands that move and restore data, as the pages have them, on a database that was used."""

import json
import re
import shutil
import subprocess
import sys

import pytest

from tests.docs.pages import DOCS, blocks, section
from tests.docs.project import Project
from tests.support.processes import read_command_output

pytestmark = [pytest.mark.timeout(300), pytest.mark.nightly]

MOVE = blocks(DOCS / "how-to/production-several-machines.md", "sh", "From SQLite to PostgreSQL")
BACKUPS = section("how-to/upgrade.md", "Back up and restore")

TASKS = """
# mysite/tasks.py
from django.contrib.auth.models import User
from notifications.api import policy, task
from notifications.contrib.questions import question

@task
@policy(title="Add {a} and {b}")
def add(a, b):
    return a + b

@task
def ask(to):
    return question("Add them?", name="add", choices={"yes": "Yes"}, to=[User.objects.get(username=to)])
"""

#: Makes a history, of which a part belongs to users who are deleted: an owner, a sender, an answerer.
USE = """
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Group, Permission, User
from django.core.management import call_command
from django.test import Client
from django.utils import timezone
from mysite.tasks import add, ask
from notifications.api import notify
from notifications.contrib.broadcasts.models import Broadcast
from notifications.contrib.deliveries.models import Reader
from notifications.models import Wait
from notifications.streams.marking_seen import mark_seen

def run():
    call_command("run_jobs", "--until-idle", verbosity=0)

staff = Group.objects.create(name="Staff")
staff.permissions.set(Permission.objects.filter(codename__startswith="view_"))
gone, ada, bob, dora = (User.objects.create_user(name) for name in ("gone", "ada", "bob", "dora"))
ada.groups.add(staff)
for user in (gone, ada, bob):
    for n in range(5):
        notify(user, f"{user} {n}")
    add.using(owner=user).enqueue(2, 3)
    asking = ask.using(owner=user).enqueue("dora")
    run()
    client = Client()
    client.force_login(dora)
    wait = Wait.objects.get(job=asking.id)
    path = f"/notifications/api/jobs/{asking.id}/answers/{wait.id}/"
    assert client.post(path, {"value": "yes"}, content_type="application/json").status_code == 200
    run()
    client.force_login(user)
    path = "/notifications/api/notifications/read/"
    assert client.post(path, {"up_to": 2}, content_type="application/json").status_code == 200
    mark_seen(user.pk, 4)
    Reader.objects.create(user=user, time_zone="Asia/Tokyo")
Broadcast.objects.create(
    sender=dora, level="info", title="Hi", audience_kind="everybody", recipients=0, created_at=timezone.now()
)
LogEntry.objects.log_actions(ada.pk, User.objects.filter(pk=bob.pk), 2)
User.objects.filter(username__in=["gone", "dora"]).delete()
notify(ada, "last")
add.using(owner=ada).enqueue(4, 5)
"""

#: Prints what the users see, and the epoch.
READ = """
import json
from django.contrib.auth.models import User
from django.test import Client
from notifications.contrib.broadcasts.models import Broadcast
from notifications.contrib.deliveries.models import Reader
from notifications.inbox import read_numbered_position
from notifications.models import Job, Notification, Stream, Wait

seen = {}
for user in User.objects.all():
    client = Client()
    client.force_login(user)
    items = client.get("/notifications/api/sync/").json()["items"]
    seen[str(user)] = {
        "inbox": [[item["title"], item["raised"], item["seq"], item["read_at"] is None] for item in items],
        "counts": list(Stream.objects.filter(user=user).values_list("seen", "unread", "unseen")),
        "jobs": list(Job.objects.filter(user=user).order_by("id").values_list("title", "state", "result")),
        "reader": list(Reader.objects.filter(user=user).values_list("time_zone", flat=True)),
        "permissions": sorted(user.get_all_permissions()),
    }
seen["waits"] = list(Wait.objects.order_by("id").values_list("how", "value"))
seen["broadcasts"] = list(Broadcast.objects.values_list("title", "sender"))
print(json.dumps([seen, read_numbered_position(user.pk).epoch]))
"""


@pytest.fixture
def project(tmp_path):
    """A project on SQLite that was used."""
    project = Project(tmp_path)
    project.add_settings('ALLOWED_HOSTS = ["*"]\nNOTIFICATIONS = {"EMBEDDED_WORKER": False}\n')
    names = ("broadcasts", "deliveries", "questions")
    project.add_settings(f"INSTALLED_APPS += {[f'notifications.contrib.{name}' for name in names]}\n")
    project.manage("migrate", "--verbosity", "0")
    project.write(TASKS.lstrip())
    (project.folder / "mysite/urls.py").write_text(
        "from django.urls import include, path\n"
        'urlpatterns = [path("notifications/", include("notifications.urls"))]\n'
    )
    project.manage("shell", "--no-imports", "-c", USE)
    yield project
    project.close()


def read(project):
    return json.loads(project.manage("shell", "--no-imports", "-c", READ).splitlines()[-1])


def run_block(project, block, *, may_fail=False):
    """Run the commands of a page in a shell of the project and return what they print."""
    command = ["bash", "-euc", block.replace("python manage.py", f"{sys.executable} manage.py")]
    done = subprocess.run(
        command, cwd=project.folder, env=project.environment, capture_output=True, text=True, timeout=120
    )
    return read_command_output(command, done.returncode * (not may_fail), done.stdout, done.stderr)


def run_doctor(project, command):
    """Run doctor, which fails only because no worker runs, if jobs have waited for some time."""
    output = run_block(project, command, may_fail=True)
    assert set(re.findall(r"^error +(\w+)", output, re.M)) <= {"workers", "alerts", "duties"}, output
    assert re.search(r"^ok +positions", output, re.M), output


def test_from_sqlite_to_postgresql(project, postgres):
    """All that users see is the same afterwards, with a new epoch, and the jobs that were queued run."""
    before, epoch = read(project)
    assert len(before["ada"]["inbox"]) == 8 and before["ada"]["counts"] != [[0, 0, 0]]
    [block] = MOVE
    dump, change, load = block.partition("# set DATABASES to PostgreSQL, then:\n")
    assert change
    run_block(project, dump)
    postgres.run("DROP DATABASE IF EXISTS moved")
    postgres.create("moved")
    try:
        project.add_settings(
            'DATABASES = {"default": {"ENGINE": "django.db.backends.postgresql", "NAME": "moved", "USER": "tests", '
            f'"HOST": "127.0.0.1", "PORT": {postgres.port}}}}}\n'
        )
        *commands, doctor = load.splitlines()
        run_block(project, "\n".join(commands))
        run_doctor(project, doctor)
        after, new_epoch = read(project)
        assert after == before
        assert new_epoch != epoch
        project.manage("run_jobs", "--until-idle")
        [*_, job], inbox = (read(project)[0]["ada"][kind] for kind in ("jobs", "inbox"))
        assert job == ["Add 4 and 5", "succeeded", "9"]
        assert len(inbox) == 9 and len({seq for _, _, seq, _ in inbox}) == 9
    finally:
        postgres.drop("moved")


def test_restored_backup(project, tmp_path):
    """A backup of the database has everything, and `new_epoch` has clients start from a snapshot."""
    before, epoch = read(project)
    backup = tmp_path / "backup.sqlite3"
    project.manage(
        "shell",
        "--no-imports",
        "-c",
        f"import sqlite3; sqlite3.connect('db.sqlite3').execute('VACUUM INTO \"{backup}\"')",
    )
    project.manage("run_jobs", "--until-idle")
    for file in project.folder.glob("db.sqlite3*"):
        file.unlink()
    shutil.copy(backup, project.folder / "db.sqlite3")
    commands = [line for line in BACKUPS.split("`") if line.startswith("python manage.py")]
    assert [command.split()[3] for command in commands] == ["new_epoch", "doctor"]
    new_epoch, doctor = commands
    run_block(project, new_epoch)
    run_doctor(project, doctor)
    after, new_epoch = read(project)
    assert after == before
    assert new_epoch != epoch
