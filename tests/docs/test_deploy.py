"""The shell blocks of the deploy pages work as typed, in a fresh project with the settings of the page."""

import os
import re
import subprocess
import sys

import pytest

from tests.docs.pages import DOCS, blocks
from tests.docs.project import Project

pytestmark = pytest.mark.nightly

ONE_MACHINE = DOCS / "how-to/production-one-machine.md"
CONTAINERS = DOCS / "how-to/containers.md"

#: Stand for programs that a test must not call: they do what matters here of the real ones.
PROGRAMS = {
    "sudo": 'shift 2; exec env -i PATH="$PATH" PYTHONPATH="$PYTHONPATH" "$@"\n',  # sudo -u mysite COMMAND
    "systemctl": 'echo "$@" >> "$SYSTEMCTL_LOG"\n',
    "chown": "",
}


@pytest.fixture
def project(tmp_path, monkeypatch):
    # Django has settings of a new project for each version; those of tests must not be in the environment.
    monkeypatch.delenv("DEBUG", raising=False)
    project = Project(tmp_path)
    yield project
    project.close()


def add_page_settings(project, page, folder):
    text = blocks(page, "python")[0].replace("/srv/mysite", str(folder)).replace("/app/static", str(folder))
    project.add_settings("\n" + text)


def test_commands_of_one_machine(project, tmp_path):
    """Write the key, deploy, and check with doctor, each block in a shell without SECRET_KEY."""
    folder = project.folder
    (folder / "data").mkdir()
    (folder / "venv").symlink_to(sys.prefix)
    programs = tmp_path / "bin"
    programs.mkdir()
    for name, code in PROGRAMS.items():
        (programs / name).write_text(f"#!/bin/sh\n{code}")
        (programs / name).chmod(0o755)
    (programs / "python").symlink_to(sys.executable)
    add_page_settings(project, ONE_MACHINE, folder)
    log = tmp_path / "systemctl.log"
    environment = project.environment | {
        "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}",
        "SYSTEMCTL_LOG": str(log),
    }

    def run_block(block):
        block = block.replace("/srv/mysite", str(folder)).replace("/etc/mysite.env", f"{tmp_path}/mysite.env")
        completed = subprocess.run(
            ["bash", "-euc", block], env=environment, capture_output=True, text=True, timeout=180
        )
        assert completed.returncode == 0, completed.stdout + completed.stderr
        return completed.stdout + completed.stderr

    write_key, deploy = blocks(ONE_MACHINE, "sh")
    run_block(write_key)
    key = re.fullmatch(r"SECRET_KEY='(.+)'\n", (tmp_path / "mysite.env").read_text())[1]
    assert len(key) > 50
    assert "SECRET_KEY" not in environment
    *before, doctor = deploy.splitlines()
    definitions = "\n".join(before[:2])
    run_block("\n".join(before))
    assert log.read_text() == "restart mysite-web mysite-worker\n"
    # The service of the worker, which systemctl would have started.
    project.environment["SECRET_KEY"] = key
    worker = project.start("manage.py", "run_jobs")
    worker.wait_until(lambda: "Worker" in worker.output, what="the worker to start")
    assert "ok" in run_block(f"{definitions}\n{doctor}")


def test_settings_of_containers_are_for_production(project, tmp_path):
    """Those of several machines: the image is built as the Dockerfile says, and no container starts without a key."""
    add_page_settings(project, DOCS / "how-to/production-several-machines.md", tmp_path / "static")
    [dockerfile] = re.findall(r"^```dockerfile$\n(.*?)^```$", CONTAINERS.read_text(), re.M | re.S)
    [collect] = re.findall(r"^RUN (.*collectstatic.*)$", dockerfile, re.M)

    def run(command, **environment):
        return subprocess.run(
            ["sh", "-c", command.replace("python", sys.executable)],
            cwd=project.folder,
            env=project.environment | environment,
            capture_output=True,
            text=True,
            timeout=60,
        )

    assert run(collect).returncode == 0
    assert list((tmp_path / "static").iterdir())
    check = re.search(r"run --rm web (python manage.py check --deploy)", CONTAINERS.read_text())[1]
    without_key = run(check, DB_HOST="db", DB_PASSWORD="x")
    assert "KeyError: 'SECRET_KEY'" in without_key.stderr
    checked = run(check, DB_HOST="db", DB_PASSWORD="x", SECRET_KEY="k" * 20 + "abcdefghij" * 4)
    assert checked.returncode == 0, checked.stderr
    assert not {"security.W009", "security.W018", "security.W020", "mail.E001"} & set(
        re.findall(r"\w+\.[WE]\d{3}", checked.stderr)
    )
