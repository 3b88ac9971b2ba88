"""The page on engines, followed in a fresh project: a backlog of the built-in worker and new jobs run on Celery."""

import re
import shlex

import pytest

from tests.docs.pages import DOCS, blocks
from tests.docs.project import ENQUEUE, Project

pytest.importorskip("celery", reason="Celery is not installed (pip install celery).")
pytestmark = [pytest.mark.timeout(300), pytest.mark.nightly]

PAGE = DOCS / "how-to/engines.md"


@pytest.fixture
def project(tmp_path):
    project = Project(tmp_path)
    yield project
    project.close()


def block_of(name, number=0):
    """Return a block of the page whose first line names this file."""
    return [block for block in blocks(PAGE, "python") if block.startswith(f"# {name}")][number]


def test_jobs_run_on_celery_and_back(project, redis):
    """With the second of the documented commands: the first is refused on SQLite. What is queued moves back too."""
    settings = (project.folder / "mysite/settings.py").read_text()
    backlog = project.enqueue(10)
    project.write(block_of("settings.py"), broker=("redis://localhost:6379/0", redis.url))
    project.write(block_of("mysite/celery.py"))
    project.write(block_of("mysite/__init__.py"))
    commands = [
        line.partition("#")[0].split()
        for block in blocks(PAGE, "sh")
        for line in block.splitlines()
        if line.startswith("celery")
    ]
    assert len(commands) == 2 and {"prefork", "threads"} == {
        command[command.index("--pool") + 1] if "--pool" in command else "prefork" for command in commands
    }
    refused = project.start("-m", *commands.pop(0))
    refused.wait_for_line("Start the worker with --pool threads")
    assert refused.popen.wait(60) == 1
    for number, command in enumerate(commands):
        worker = project.start("-m", *command, "--loglevel", "INFO")
        ids = [backlog, project.enqueue(number)]
        project.wait_for(*ids, results=["11", str(number + 1)])
        worker.stop()
        assert "notifications.wake" in worker.output and "Traceback" not in worker.output

    queued = project.enqueue(20)
    (project.folder / "mysite/settings.py").write_text(settings)
    project.add_settings('INSTALLED_APPS += ["notifications.contrib.engines"]\n')
    project.start("manage.py", "run_jobs")
    project.wait_for(queued, results=["21"])


def test_own_engine_runs_jobs(project):
    """The engine of the page, which starts a process for each message."""
    project.write(block_of("mysite/engine.py"))
    project.write(block_of("mysite/management/commands/run_waiting.py"))
    project.write(
        block_of("settings.py"),
        engine=('"engine": "notifications.contrib.celery"', '"engine": "mysite.engine"'),
    )
    project.manage("check")
    project.wait_for(project.enqueue(1), results=["2"])


def test_another_backend_runs_jobs(project):
    """That of django-tasks-db, with the worker that the table names."""
    pytest.importorskip("django_tasks_db", reason="django-tasks-db is not installed.")
    project.write(block_of("settings.py", 2))
    project.add_settings('INSTALLED_APPS += ["django_tasks_db"]\n')
    project.manage("migrate", "--verbosity", "0")
    [command] = re.findall(r"`manage.py (db_worker [^`]+)`", PAGE.read_text())
    project.start("manage.py", *shlex.split(command))
    project.wait_for(project.enqueue(1), results=["2"])


def test_settings_with_several_engines_select_one(project, redis):
    """The built-in worker runs the jobs of the backend "local"."""
    project.write(block_of("settings.py", 1))
    project.add_settings(f"CELERY_BROKER_URL = {redis.url!r}\n")
    project.write(block_of("mysite/celery.py"))
    project.write(block_of("mysite/__init__.py"))
    project.manage("check")
    enqueue = ENQUEUE.replace("add.enqueue", 'add.using(backend="local").enqueue')
    id = project.manage("shell", "--no-imports", "-c", enqueue.format(5)).split()[-1]
    project.start("manage.py", "run_jobs")
    project.wait_for(id, results=["6"])
