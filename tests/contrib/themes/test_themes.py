"""The bell stands in the headers of django-unfold, Jazzmin and Wagtail's admin."""

import json
import os
import subprocess
import sys

import pytest

pytestmark = pytest.mark.nightly

ADMIN = ("/admin/", "/admin/notifications/job/", "/admin/notifications_operations/overview/")
PAGES = {"unfold": ADMIN, "jazzmin": ADMIN, "wagtail": ("/cms/", "/cms/reports/site-history/")}
#: Where the bell is: inside what, or with what around it.
PLACES = {
    "unfold": 'id="header-inner"',
    "jazzmin": '<div class="notifications-in-jazzmin">',
    "wagtail": '<div class="notifications-in-wagtail">',
}
#: What follows the header.
CONTENTS = {"unfold": 'id="content"', "jazzmin": 'class="app-content-header"', "wagtail": None}
BELL = "notifications-button"


def render(theme, paths, folder):
    """Return what pages are in a process with this theme."""
    return run("render", theme, folder, *paths)


def run(program, theme, folder, *arguments, **variables):
    """Return what a program prints in a project with this theme."""
    environment = {
        **os.environ,
        "THEME": theme,
        "TEST_DIR": str(folder),
        "DATABASE_URL": f"sqlite:///{folder}/site.sqlite3",
        "DJANGO_SETTINGS_MODULE": "tests.contrib.themes.settings",
        **variables,
    }
    command = [sys.executable, "-m", f"tests.contrib.themes.{program}", *arguments]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize("theme", PAGES)
def test_the_bell_is_in_the_header(theme, tmp_path):
    """Once on each page, and not in popups; `check` finds nothing."""
    pytest.importorskip(theme, reason=f"{theme} is not installed.")
    popup = "/admin/auth/group/add/?_popup=1"
    found = render(theme, [*PAGES[theme], popup], tmp_path)
    for path in PAGES[theme]:
        status, text = found["pages"][path]
        assert status == 200, path
        assert text.count(f'class="{BELL}"') == 1, path
        before, after = text.split(f'class="{BELL}"')
        assert PLACES[theme] in before, path
        if CONTENTS[theme]:
            assert CONTENTS[theme] in after, path
    assert theme == "wagtail" or BELL not in found["pages"][popup][1]
    assert found["checks"] == []


def test_index_tasks_of_wagtail(tmp_path):
    """With the adapter none fails, and no editor is notified of them. Without it a check names them."""
    pytest.importorskip("wagtail", reason="Wagtail is not installed.")
    queued, succeeded, notifications = run("index_pages", "wagtail", tmp_path)
    assert queued >= 75
    assert (succeeded, notifications) == (queued, 0)
    assert run("index_pages", "wagtail", tmp_path, "checks") == []
    found = run("index_pages", "wagtail", tmp_path, "checks", WITHOUT_ADAPTER="1")
    assert ["modelsearch.tasks.insert" in text for text in found] == [True, False, False]
