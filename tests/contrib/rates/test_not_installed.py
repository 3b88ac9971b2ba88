"""A project without the app: nothing shows that there is one, and a call says the line to add."""

import pytest

pytestmark = pytest.mark.nightly

LINE = 'Add "notifications.contrib.rates" to INSTALLED_APPS, and run manage.py migrate.'
USE = """
from django.contrib.auth.models import Permission
from django.db import connection
from notifications.contrib.rates import charge, rate
from notifications.extension import hooks
from tests.support.checks import doctor

assert not [table for table in connection.introspection.table_names() if "rate" in table]
assert not Permission.objects.filter(codename__contains="limit").exists()
assert doctor("tables")[0]["state"] == "ok"
assert not hooks.find_modules("gates")
try:
    rate("partner")
except Exception as exc:
    print(exc)
try:
    import notifications.contrib.rates.models
except Exception as exc:
    print(exc)
"""
TASKS = """
from notifications.api import task
from notifications.contrib.rates import rate

@task
@rate("partner")
def fetch():
    return 7
"""
FETCH = """
from mysite.tasks import fetch
from notifications.models import Job
from notifications.testing import run_jobs
job = fetch.enqueue()
assert Job.objects.get().limit_key == "partner"
run_jobs()
job.refresh()
print(job.return_value)
"""
CHECK = """
import mysite.tasks
from django.core.checks import run_checks
print([check.id for check in run_checks(tags=["notifications"]) if check.level >= 30])
"""


def test_nothing_shows_it(project):
    printed = project.manage("shell", "--no-imports", "-c", USE).splitlines()
    for line in printed[-2:]:
        assert line == f"notifications.contrib.rates is not installed. {LINE}"
    assert "no issues" in project.manage("check")


def test_it_is_installed_by_one_line(project):
    project.add_settings('INSTALLED_APPS += ["notifications.contrib.rates"]\n')
    (project.folder / "mysite/tasks.py").write_text(TASKS)
    project.manage("migrate", "--verbosity", "0")
    assert project.manage("shell", "--no-imports", "-c", FETCH).splitlines()[-1] == "7"
    # Its task names a rate that is not declared.
    assert project.manage("shell", "--no-imports", "-c", CHECK).splitlines()[-1] == "['notifications.W048']"
