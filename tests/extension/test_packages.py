"""Packages that only one optional app needs: the others work without them, and the app says what to install."""

import pytest

from tests.contrib.conftest import project  # noqa: F401 (a fixture)

pytestmark = pytest.mark.nightly_on_postgres

#: The packages that are not installed, at the begin of the settings.
MISSING = "import sys\nsys.modules |= dict.fromkeys(['cronsim', 'standardwebhooks'])\n"
OTHER_APPS = [
    f"notifications.contrib.{name}"
    for name in (
        *("broadcasts", "celery", "chat", "deliveries", "engines", "files", "operations", "output"),
        *("questions", "rates", "steps"),
    )
]
USE = """
import pkgutil, sys
from importlib import import_module
import notifications
from notifications.models import Job
from notifications.testing import run_jobs
from tests.jobs import tasks

LEFT_OUT = ("contrib.schedules", "contrib.webhooks", "contrib.wagtail", "contrib.jazzmin", "migrations")
names = []
def find(package):
    for module in pkgutil.iter_modules(package.__path__, f"{package.__name__}."):
        if not any(f".{part}" in module.name for part in LEFT_OUT):
            names.append(module.name)
            if module.ispkg:
                find(import_module(module.name))
find(notifications)
for name in names:
    import_module(name)
tasks.noop.enqueue()
run_jobs()
print(len(names) > 300, Job.objects.get().state)
"""


def test_the_core_and_other_apps_work_without_the_packages(project):  # noqa: F811
    """All of their modules can be imported, and a job runs."""
    project.add_settings(f"{MISSING}INSTALLED_APPS += {OTHER_APPS}\n")
    project.manage("migrate", "--verbosity", "0")
    assert project.manage("shell", "--no-imports", "-c", USE).split() == ["True", "succeeded"]
    project.manage("check")


@pytest.mark.parametrize("app", ["schedules", "webhooks"])
def test_an_app_says_what_to_install(project, app):  # noqa: F811
    """When the process starts, whatever the order of INSTALLED_APPS: the admin imports its modules early."""
    project.add_settings(f'{MISSING}INSTALLED_APPS += ["notifications.contrib.{app}"]\n')
    code, _, errors = project.try_command("check")
    assert code and f'pip install "asyncsite-notifications[{app}]"' in errors


def test_a_webhook_is_verified_without_the_app(project):  # noqa: F811
    """Its package is missing then, in a project that has only added the line of the import."""
    project.add_settings(MISSING)
    code, _, errors = project.try_command(
        "shell", "--no-imports", "-c", "from notifications.contrib.webhooks import verify_webhook"
    )
    assert code and 'pip install "asyncsite-notifications[webhooks]"' in errors
