"""Configuration files in the documentation, and the hooks of pre-commit, are valid and agree with the code."""

import importlib
import re
import shutil
import subprocess

import psycopg
import pytest
import yaml

from notifications.conf import SETTINGS
from tests.docs.pages import DOCS, ROOT, blocks

PRODUCTION = ["production-one-machine", "production-several-machines"]


@pytest.mark.parametrize("page", PRODUCTION)
@pytest.mark.skipif(not shutil.which("nginx"), reason="nginx is not installed.")
def test_nginx_accepts_its_configuration(page, tmp_path):
    """The server block, in the smallest file around it. That of several machines has a few lines more."""
    [server] = blocks(DOCS / "how-to/production-one-machine.md", "nginx")
    if page != "production-one-machine":
        [upstream] = blocks(DOCS / f"how-to/{page}.md", "nginx")
        assert "proxy_pass http://mysite;" in (DOCS / f"how-to/{page}.md").read_text()
        server = upstream + re.sub("proxy_pass .*;", "proxy_pass http://mysite;", server)
    path = tmp_path / "nginx.conf"
    server = server.replace("listen 80", "listen 127.0.0.1:8080")
    path.write_text(f"events {{}}\npid {tmp_path}/pid;\nhttp {{\naccess_log off;\n{server}}}\n")
    done = subprocess.run(
        ["nginx", "-t", "-e", "stderr", "-c", path], capture_output=True, text=True, timeout=30
    )
    assert done.returncode == 0, done.stderr


def test_the_time_to_stop_a_worker_is_longer_than_its_grace():
    """A SIGKILL within GRACE would lose the jobs that run."""
    [_, unit] = blocks(DOCS / "how-to/production-one-machine.md", "ini")
    settings = dict(line.split("=", 1) for line in unit.splitlines() if "=" in line)
    assert int(settings["TimeoutStopSec"]) > SETTINGS["GRACE"].default
    files = blocks(DOCS / "how-to/containers.md", "yaml")
    for file, name in zip(files, ("worker", "celery"), strict=True):
        worker = yaml.safe_load(file)["services"][name]
        assert int(worker["stop_grace_period"].removesuffix("s")) > SETTINGS["GRACE"].default


def test_the_protocol_classes_for_uvicorn_exist():
    """Those that the page on servers gives to `--ws` and `--http`, and that uvicorn imports."""
    page = (DOCS / "how-to/servers.md").read_text()
    options = re.findall(r"--(ws|http) ([\w.]+):(\w+)", page)
    assert [option for option, _, _ in options] == ["ws", "http"]
    for _, module, name in options:
        assert hasattr(importlib.import_module(module), name)


def test_pre_commit_runs_the_parts_of_make_lint():
    """Each line of `make lint`, and each target that it needs, is a hook."""
    config = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())
    entries = {hook["entry"].removeprefix("env ") for repo in config["repos"] for hook in repo["hooks"]}
    rule = (ROOT / "Makefile").read_text().partition("\nlint: ")[2].partition("\n\n")[0]
    first, *commands = rule.split("\n")
    needed = {f"make {target}" for target in first.split() if target != "venv-dev"}
    assert entries == needed | {command.strip() for command in commands}


@pytest.mark.any_database
def test_postgresql_limits_statements_of_the_user(postgres):
    """Behind PgBouncer, in place of "options", which the settings of the page have."""
    page = DOCS / "how-to/production-several-machines.md"
    (statement,) = blocks(page, "sql")
    (limit,) = re.findall(r'"options": "-c statement_timeout=(\d+)"', page.read_text())
    postgres.run(statement.replace("mysite", "tests"))
    try:
        with psycopg.connect(postgres.url("postgres")) as connection:
            assert connection.execute("SHOW statement_timeout").fetchone() == (f"{int(limit) // 1000}s",)
    finally:
        postgres.run("ALTER ROLE tests RESET statement_timeout")
