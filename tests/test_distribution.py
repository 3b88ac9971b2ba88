"""The app names django-notifications-hq where it was installed into the same folder."""

import os
import shutil
import subprocess
import sys
import tomllib

import pytest

from tests.support.site import ROOT

#: Files that both distributions have, or that only the other one has, with what matters of their contents there.
OTHER_FILES = {
    "__init__.py": "default_app_config = 'notifications.apps.Config'\n",
    "apps.py": "from django.apps import AppConfig\n\n\nclass Config(AppConfig):\n    name = 'notifications'\n",
    "signals.py": "from django.dispatch import Signal\n\nnotify = Signal()\n",
    "migrations/0001_initial.py": "",
}
COMMAND = ["-m", "django", "check", "--settings", "mysite"]
APPS = ["django.contrib.auth", "django.contrib.contenttypes", "notifications"]
SETTINGS = f"SECRET_KEY = 'x'\nINSTALLED_APPS = {APPS}\n"


def test_metadata():
    """The index shows the status and each version of Python that CI runs."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    classifiers = project["classifiers"]
    versions = [name.rpartition(" ")[2] for name in classifiers if "Python :: 3." in name]
    assert versions == ["3.11", "3.12", "3.13", "3.14"]
    assert project["requires-python"] == f">={versions[0]}"
    assert "Python 3.11 to 3.14" in (ROOT / "CONTRIBUTING.md").read_text()
    assert "Development Status :: 4 - Beta" in classifiers
    assert project["keywords"]


@pytest.mark.parametrize("files", [OTHER_FILES, ["migrations/0001_initial.py"]], ids=["after", "before"])
@pytest.mark.parametrize("command", [COMMAND, ["-c", "import notifications.api"]], ids=["check", "import"])
def test_first_import_names_the_other_distribution(tmp_path, files, command):
    """Installed after this one, it replaces modules; installed before, it leaves its migrations."""
    shutil.copytree(
        ROOT / "notifications", tmp_path / "notifications", ignore=shutil.ignore_patterns("__pycache__")
    )
    for name in files:
        (tmp_path / "notifications" / name).write_text(OTHER_FILES[name])
    (tmp_path / "mysite.py").write_text(SETTINGS)
    environment = {key: value for key, value in os.environ.items() if key != "DJANGO_SETTINGS_MODULE"}
    completed = subprocess.run(
        [sys.executable, *command],
        cwd=tmp_path,
        env=environment | {"PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert completed.returncode == 1
    assert "pip uninstall --yes django-notifications-hq asyncsite-notifications" in completed.stderr
    assert "ImportError" not in completed.stderr
