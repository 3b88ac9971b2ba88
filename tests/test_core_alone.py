"""The core knows no optional app, but for where they are and whose admins they adapt."""

import ast
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from django.apps import apps

from tests.support.sources import list_nodes

pytestmark = [pytest.mark.any_database, pytest.mark.any_django]

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "notifications"
#: The modules with such a string: the package of all, for errors, and those whose bell is in another one's admin.
NAMED_IN = {"extension/shipped.py", "checks.py"}


def strings_of_core():
    """Yield the path of each module outside of contrib/, and its strings but docstrings."""
    for path in sorted(PACKAGE.rglob("*.py")):
        name = str(path.relative_to(PACKAGE))
        if name.startswith(("contrib/", "migrations/")):
            continue
        nodes = list_nodes(path)
        docstrings = {
            id(node.value) for node in nodes if isinstance(node, ast.Expr)
        }  # also comments in the form of strings
        yield (
            name,
            [
                node.value
                for node in nodes
                if isinstance(node, ast.Constant)
                and isinstance(node.value, str)
                and id(node) not in docstrings
            ],
        )


def test_an_import_of_an_optional_app_breaks_a_contract(tmp_path):
    shutil.copytree(
        PACKAGE,
        tmp_path / "notifications",
        ignore=lambda folder, names: {name for name in names if "." in name and not name.endswith(".py")},
    )
    with (tmp_path / "notifications/conf.py").open("a") as file:
        file.write("import notifications.contrib.steps.apps\n")
    done = subprocess.run(
        [
            *(Path(sys.executable).with_name("lint-imports"), "--no-cache", "--contract", "folders"),
            *("--config", ROOT / "pyproject.toml"),
        ],
        env={"PYTHONPATH": f"{tmp_path}:{ROOT}", "COLUMNS": "200"},
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    assert "Folders of notifications import downwards BROKEN" in done.stdout
    assert "notifications.conf -> notifications.contrib.steps.apps (" in done.stdout


def test_libraries_of_optional_apps_are_not_imported():
    """cronsim and standardwebhooks are installed with the extras of schedules and webhooks, which alone import them."""
    users = {
        str(path.relative_to(PACKAGE))
        for path in PACKAGE.rglob("*.py")
        if re.search(r"^\s*(from|import) (cronsim|standardwebhooks)\b", path.read_text(), re.MULTILINE)
    }
    assert users == {"contrib/schedules/timing.py", "contrib/webhooks/signing.py"}


@pytest.mark.long
def test_no_string_names_an_optional_app():
    named = {
        name
        for name, strings in strings_of_core()
        if any(re.search(r"\bnotifications\.contrib\b", text) for text in strings)
    }
    assert named == NAMED_IN


def test_no_string_names_a_table_of_an_optional_app():
    tables = {
        model._meta.db_table
        for model in apps.get_models(include_auto_created=True)
        if model.__module__.startswith("notifications.contrib.") and not model._meta.proxy
    }
    assert len(tables) > 10
    named = re.compile(rf"\b({'|'.join(tables)})\b")
    assert not [name for name, strings in strings_of_core() if any(map(named.search, strings))]


IMPORTS = """
import sys
import django
django.setup()
print(*sorted(sys.modules))
"""
#: What a page of the admin, a worker or a server imports when it needs it.
IMPORTED_LATE = {
    "django.db.migrations.executor",
    "notifications.contrib.broadcasts.starting",
    "notifications.contrib.deliveries.sending",
    "notifications.contrib.operations.admin.overview.figures",
    "notifications.contrib.operations.alerts.evaluation",
    "notifications.contrib.operations.statistics.reading",
    "notifications.contrib.schedules.operating",
    "notifications.duties",
    "notifications.http.page_views",
    "notifications.management.diagnosis.checking",
    "notifications.realtime.probe",
}


def test_setup_imports_no_machinery():
    """Each command, worker and server imports all admins."""
    done = subprocess.run(
        [sys.executable, "-c", IMPORTS], cwd=ROOT, check=True, capture_output=True, text=True
    )
    names = done.stdout.split()
    assert not IMPORTED_LATE.intersection(names)
    assert "notifications.admin.jobs" in names
