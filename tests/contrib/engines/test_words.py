"""The core knows that a backend has an engine, and no more."""

import re
from pathlib import Path

import notifications

ROOT = Path(notifications.__file__).parent
#: Modules outside of ``contrib/`` that speak of engines, and why.
MODULES = {
    # A backend has an engine or not, and who claims its jobs follows from that.
    *(
        "jobs/declaring/tasks.py",
        "jobs/declaring/own_tasks.py",
        "jobs/backend.py",
        "jobs/claiming/sources.py",
        "jobs/claiming/unserved.py",
    ),
    "jobs/__init__.py",
    # Who joins the queue wakes them, and their processes last.
    *("jobs/transitions/conditional_updates.py", "worker/__init__.py", "worker/event_loop.py"),
    # The hooks by which their processes are woken, and described.
    *("extension/__init__.py", "extension/app.py", "extension/dispatch.py", "extension/duty.py"),
    *("asgi.py", "checks.py", "readiness.py", "testing/inline.py"),
    # What staff read.
    *("admin/filters.py", "admin/jobs.py", "jobs/selection.py", "management/diagnosis/configuration.py"),
    *(
        "management/diagnosis/processes.py",
        "management/subcommands/job_lines.py",
        "management/subcommands/jobs.py",
    ),
}
#: Words that are spelled like it.
OTHER = re.compile(r"SESSION_ENGINE|template|database engine|ENGINE\b|engines\[|\.engine\.find")


def test_modules_that_speak_of_engines():
    found = set()
    for path in ROOT.rglob("*.py"):
        name = path.relative_to(ROOT).as_posix()
        if name.startswith(("contrib/", "migrations/")):
            continue
        lines = path.read_text().splitlines()
        if any(re.search("engine", line, re.IGNORECASE) and not OTHER.search(line) for line in lines):
            found.add(name)
    assert found == MODULES
