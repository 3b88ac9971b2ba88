"""What the distribution says of itself, and that it names django-notifications-hq in the same folder."""

import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from functools import partial

import pytest

from notifications import __version__
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
    status = "4 - Beta" if IS_CANDIDATE else "5 - Production/Stable"
    assert f"Development Status :: {status}" in classifiers
    assert project["keywords"]


#: The version, as a pattern, in files that are not made from notifications/__init__.py; of the changelog the newest.
PLACES = {
    "CHANGELOG.md": r"\A(?:.*\n)+?## (?!Unreleased)(\S+)",
    "docs/how-to/bundlers.md": r"asyncsite-notifications-(\S+)\.tgz",
    "js/package.json": r'"version": "(.+)"',
    "notifications/http/openapi.json": r'"version": "(.+)"',
}
IS_CANDIDATE = "rc" in __version__
#: What tells a reader that the version is a candidate, in the files that say so.
CANDIDATE_TEXTS = ("README.md", "PACKAGE.md", "docs/how-to/install.md", "pyproject.toml")


def test_version():
    """Each file names it, the npm package and its page as npm writes it."""
    found = {name: set(re.findall(pattern, (ROOT / name).read_text())) for name, pattern in PLACES.items()}
    npm = __version__.replace("rc", "-rc.")
    assert found == {name: {npm if name.startswith(("js/", "docs/")) else __version__} for name in PLACES}


def test_release_candidate_is_called_one():
    """While the version is a candidate, and no longer."""
    named = [name for name in CANDIDATE_TEXTS if "release candidate" in (ROOT / name).read_text()]
    assert named == (list(CANDIDATE_TEXTS) if IS_CANDIDATE else [])


@pytest.fixture
def read_metadata(tmp_path):
    """read_metadata(remote) returns the metadata of a build in a clone with this address; "": not in a clone."""

    def read(remote):
        for name in ("pyproject.toml", "README.md", "PACKAGE.md", "LICENSE"):
            shutil.copy(ROOT / name, tmp_path)
        for name in ("notifications/__init__.py", "tools/project_urls.py"):
            (tmp_path / name).parent.mkdir(exist_ok=True)
            shutil.copy(ROOT / name, tmp_path / name)
        if remote:
            for arguments in (["init", "-q"], ["remote", "add", "origin", remote]):
                subprocess.run(["git", *arguments], cwd=tmp_path, check=True)
        environment = {**os.environ, "GIT_CEILING_DIRECTORIES": str(tmp_path.parent)}
        command = [sys.executable, "-m", "hatchling", "metadata"]
        printed = subprocess.run(
            command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True
        )
        return json.loads(printed.stdout)

    return read


@pytest.mark.parametrize(
    "remote",
    [
        "https://code.example.com/team/app.git",
        "https://ada:secret@code.example.com/team/app",
        "git@code.example.com:team/app.git",
        "ssh://git@code.example.com:2222/team/app.git",
    ],
)
def test_addresses_of_the_project(read_metadata, remote):
    """They are those of the clone, without user and token."""
    repository = "https://code.example.com/team/app"
    assert read_metadata(remote)["urls"] == {
        "Homepage": repository,
        "Documentation": f"{repository}/blob/HEAD/docs/index.md",
        "Changelog": f"{repository}/blob/HEAD/CHANGELOG.md",
        "Source": repository,
        "Issues": f"{repository}/issues",
    }
    for link in ("docs/index.md", "CHANGELOG.md"):
        assert (ROOT / link).exists()


@pytest.mark.parametrize("remote", ["", "/work/clone", "../clone", "file:///work/clone.git"])
def test_no_addresses_are_invented(read_metadata, remote):
    assert not read_metadata(remote).get("urls")


def test_addresses_of_an_archive(read_metadata, tmp_path):
    """A wheel that is built from the source archive, where there is no clone, has those of the archive."""
    urls = read_metadata("https://code.example.com/team/app")["urls"]
    (tmp_path / "CHANGELOG.md").touch()
    out = tmp_path / "out"
    run = partial(subprocess.run, capture_output=True, text=True, check=True)
    run([sys.executable, "-m", "hatchling", "build", "-t", "sdist", "-d", str(out)], cwd=tmp_path)
    [archive] = out.glob("*.tar.gz")
    shutil.rmtree(tmp_path / ".git")
    shutil.unpack_archive(archive, out, filter="data")
    [folder] = [path for path in out.iterdir() if path.is_dir()]
    metadata = json.loads(run([sys.executable, "-m", "hatchling", "metadata"], cwd=folder).stdout)
    assert metadata["urls"] == urls
    assert metadata["readme"]["text"].startswith("# asyncsite-notifications\n\n```sh\npip install")


def test_page_on_an_index(read_metadata):
    """It begins with how to install the package and for whom it is, and has nothing that needs the repository."""
    text = read_metadata("")["readme"]["text"]
    title, command, audience = text.split("\n\n")[:3]
    assert title == "# asyncsite-notifications"
    assert 'pip install "asyncsite-notifications[daphne]"' in command
    assert audience.startswith("For Django projects whose users")
    assert "from notifications.api import accepted" in text and "## Documentation" in text
    assert "make run" not in text and "](" not in text.replace("](http", "")
    screen = (ROOT / "README.md").read_text().splitlines()[:25]
    assert [line.split()[:2] for line in screen if line.startswith("make ")][:2] == [
        ["make", "run"],
        ["make", "test"],
    ]


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
