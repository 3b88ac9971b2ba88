"""A fresh project, to which tests add the blocks of a page."""

import fcntl
import os
import re
import shutil
import sqlite3
import sys
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryFile

from asyncsite.environment import NAMES
from tests.docs.pages import DOCS, blocks, code
from tests.support import fork_server
from tests.support.processes import Process, read_command_output, run
from tests.support.site import COMMAND_TIMEOUT_SECONDS, ROOT
from tests.support.waiting import wait_until

INSTALL = DOCS / "how-to/install.md"
ENQUEUE = "from mysite.tasks import add; print(add.enqueue({}, 1).id)"


class Project:
    """What `startproject mysite` makes, with the app installed as how-to/install.md says, and its database."""

    def __init__(self, folder):
        self._use(folder / "project")
        # The first process of a run makes one for all.
        made = Path(os.environ["TEST_DIR"]) / "made-project"
        with made.with_suffix(".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not made.exists():
                self._make()
                self.folder.rename(made)
        shutil.copytree(made, self.folder)

    def _use(self, folder):
        self.folder = folder
        inherited = {
            key: value for key, value in os.environ.items() if key not in (*NAMES, "DJANGO_SETTINGS_MODULE")
        }
        self.environment = inherited | {"PYTHONPATH": f"{ROOT}{os.pathsep}{self.folder}"}
        self.processes = []

    def _make(self):
        self.folder.mkdir()
        self.run("-m", "django", "startproject", "mysite", ".")
        installed, *_ = (block for block in blocks(INSTALL, "python") if "INSTALLED_APPS" in block)
        assert installed.count("    ...\n") == 1
        before = (self.folder / "mysite/settings.py").read_text()
        self.add_settings(
            "APPS = INSTALLED_APPS\n" + installed.replace("    ...\n", '    *APPS, "mysite"\n'),
            code("how-to/install.md", "SQLite"),
        )
        assert before in (self.folder / "mysite/settings.py").read_text()
        self.write(code("how-to/install.md", "Enqueue a first job"))
        self.manage("migrate", "--verbosity", "0")

    def write(self, block, **replaced):
        """Do what a block says: the comment in its first line names the file."""
        name = re.match(r"# ([\w./]+)", block)[1]
        for old, new in replaced.values():
            assert block.count(old) == 1
            block = block.replace(old, new)
        if name == "settings.py":
            return self.add_settings(block)
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        return path.write_text(block)

    def add_settings(self, *added):
        with (self.folder / "mysite/settings.py").open("a") as file:
            file.write("\n".join(added))

    def enqueue(self, number):
        """Enqueue a job in a process of its own and return its id."""
        return self.manage("shell", "--no-imports", "-c", ENQUEUE.format(number)).split()[-1]

    def results(self, *ids):
        """Return the results of these jobs, None while one is not done."""
        with closing(sqlite3.connect(self.folder / "db.sqlite3", timeout=60)) as connection:
            rows = dict(
                connection.execute("SELECT id, result FROM notifications_job WHERE state = 'succeeded'")
            )
        return [rows.get(id.replace("-", "")) for id in ids]

    def wait_for(self, *ids, results):
        wait_until(lambda: self.results(*ids) == results, what="the jobs to succeed", timeout=60)

    def manage(self, *arguments):
        """Run a management command and return its output; fail if its exit code is not 0."""
        code, *texts = self.try_command(*arguments)
        return read_command_output(["manage.py", *arguments], code, *texts)

    def try_command(self, *arguments):
        """Run a management command. Return its exit code, its output and its errors."""
        with TemporaryFile() as output, TemporaryFile() as errors:
            options = {"folder": self.folder, "output": output, "errors": errors}
            program = fork_server.start(["manage.py", *arguments], self.environment, **options)
            try:
                code = program.wait(COMMAND_TIMEOUT_SECONDS)
            finally:
                program.kill()
            texts = []
            for file in (output, errors):
                file.seek(0)
                texts.append(file.read().decode())
        return code, *texts

    def run(self, *arguments):
        return run(sys.executable, *arguments, cwd=self.folder, env=self.environment)

    def start(self, *arguments):
        log = self.folder / f"{len(self.processes)}.log"
        process = Process([sys.executable, *arguments], log=log, cwd=self.folder, env=self.environment)
        self.processes.append(process)
        return process

    def close(self):
        for process in self.processes:
            process.stop()
