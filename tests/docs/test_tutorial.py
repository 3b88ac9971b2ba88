"""The tutorial, followed block by block in a fresh project: the page shows live progress and the bell rings."""

import os
import re
import shlex
import sys
from pathlib import Path

import pytest
from playwright.sync_api import expect

from asyncsite.environment import NAMES
from tests.support.network import free_port, is_listening
from tests.support.processes import Process, run
from tests.support.site import ROOT

pytestmark = [pytest.mark.timeout(300), pytest.mark.nightly]

TUTORIAL = ROOT / "docs/tutorial/first-job.md"
PASSWORD = "correct horse battery"

#: A paragraph that ends with a colon, and the block of code below it.
BLOCK = re.compile(r"^([^\n]*:)\n\n```(\w+)\n(.*?)^```$", re.M | re.S)


class Reader:
    """Does what the tutorial says, in a folder of its own. An instruction of another form is an error."""

    def __init__(self, folder):
        self.folder = folder
        self.server = None
        self.port = free_port()
        inherited = {
            key: value for key, value in os.environ.items() if key not in (*NAMES, "DJANGO_SETTINGS_MODULE")
        }
        self.environment = inherited | {
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "PYTHONPATH": str(ROOT),  # where the installed package would be
            "DJANGO_SUPERUSER_PASSWORD": PASSWORD,
        }

    def follow(self, instruction, block):
        if match := re.fullmatch(r"Create `(.+)`:", instruction):
            path = self.folder / match[1]
            assert not path.exists(), f"{path} exists already."
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(block)
        elif match := re.fullmatch(r"Replace the content of `(.+)` with:", instruction):
            path = self.folder / match[1]
            assert path.exists(), f"{path} does not exist."
            path.write_text(block)
        elif match := re.fullmatch(r"Replace `(\w+)` in `(.+)` with:", instruction):
            self._replace_setting(self.folder / match[2], match[1], block)
        elif match := re.fullmatch(r"Add to the end of `(.+)`:", instruction):
            with (self.folder / match[1]).open("a") as file:
                file.write(block)
        elif instruction == "Run:":
            for line in block.splitlines():
                self._run(shlex.split(line))
        elif instruction == "Run and leave running:":
            self._start(shlex.split(block))
        else:
            pytest.fail(f"The test cannot follow {instruction!r}.")

    def _replace_setting(self, path, name, block):
        text, count = re.subn(
            rf"^{name} = [\[{{].*?^[\]}}]\n", lambda _: block, path.read_text(), flags=re.M | re.S
        )
        assert count == 1, f"{path.name} assigns {name} {count} times."
        path.write_text(text)

    def _run(self, command):
        match command:
            case ["python", "-m", "pip", "install", requirement]:
                # The environment of the tests has these packages; the wheel is tested in tests/packaging.
                assert requirement == "asyncsite-notifications[daphne,django52]"
            case ["cd", folder]:
                self.folder /= folder
            case ["python", "manage.py", "createsuperuser", *_]:
                run(*command, "--noinput", cwd=self.folder, env=self.environment)
            case _:
                run(*self._with_interpreter(command), cwd=self.folder, env=self.environment)

    def _start(self, command):
        command = [*self._with_interpreter(command), "--noreload", f"127.0.0.1:{self.port}"]
        self.server = Process(command, log=self.folder / "server.log", cwd=self.folder, env=self.environment)
        self.server.wait_until(lambda: is_listening(self.port), what="the server to listen")

    def _with_interpreter(self, command):
        program, *arguments = command
        return [sys.executable, *(["-m", "django"] if program == "django-admin" else []), *arguments]


@pytest.fixture
def reader(tmp_path):
    reader = Reader(tmp_path)
    yield reader
    if reader.server:
        reader.server.stop()


def test_the_tutorial_works(reader, new_page):
    """Follow every block, then drive the page as step 6 describes, and open the inbox. No optional app is installed."""
    text = TUTORIAL.read_text()
    blocks = BLOCK.findall(text)
    assert len(blocks) == text.count("\n```\n"), "A block has no instruction above it."
    for instruction, _, block in blocks:
        reader.follow(instruction, block)

    page, home = new_page(), f"http://127.0.0.1:{reader.port}/"
    page.route("**/favicon.ico", lambda route: route.fulfill(status=204))  # the project has none
    page.goto(home)
    page.get_by_label("Username").fill("ada")
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Log in").click()

    page.get_by_role("button", name="Export 2026").click()
    page.get_by_text(re.compile(r"Month [1-9]\b")).first.wait_for()
    page.get_by_text("succeeded: 12000 rows").wait_for()
    page.get_by_role("button", name="1 unread").wait_for()

    page.get_by_role("button", name="Export 2026").click()
    page.get_by_text(re.compile(r"Month [1-9]\b")).first.wait_for()
    page.goto(f"{home}admin/")
    page.get_by_role("button", name="2 unread").wait_for()
    page.locator("notifications-toasts").get_by_text("Export 2026").first.wait_for()

    page.goto(f"{home}notifications/")
    titles = page.locator("notifications-inbox a.notifications-title")
    expect(titles).to_have_count(2)
    titles.first.hover()
    page.get_by_role("button", name="Done: Export 2026").first.click()
    expect(titles.locator("visible=true")).to_have_count(1)
    assert "Traceback" not in reader.server.output
