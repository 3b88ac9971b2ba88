"""The states of a job are listed in ``notifications.states``, and what lists them elsewhere agrees."""

import ast
import json
import os
import re
import subprocess
import sys

import pytest

from notifications import states
from notifications.contrib.operations.statistics.reading import ENDS
from notifications.states import CHANGES, JobState
from tests.docs.pages import DOCS
from tests.jobs.transitions.test_state_writes import PACKAGE, SQL_ASSIGNMENT, find_writers
from tests.support.sources import list_nodes

#: They write a row that another module changes, or other columns of jobs than the state.
HELPERS = {
    "limiting",  # it stores which queued jobs wait for the limits of their keys
    "limit_openings",
    "unrecorded_outcomes",
    "batch_outcomes",
    "conditional_updates",
    "executor_moves",
    "running",
}
#: Adds a state to the source of ``notifications.states``, "active" or "done", then prints what lacks it.
ADD_A_STATE = """
import importlib.util, json, sys
from pathlib import Path

spec = importlib.util.find_spec("notifications.states")
source = Path(spec.origin).read_text()
is_done = sys.argv[1] == "done"
member, active = 'CANCELLED = "cancelled", _("Cancelled")', "= (JobState.QUEUED, JobState.RUNNING, JobState.WAITING)"
assert member in source and active in source
if not is_done:
    source = source.replace(active, active[:-1] + ", JobState.MADE_UP)")
states = importlib.util.module_from_spec(spec)
sys.modules[spec.name] = states
exec(source.replace(member, member + '\\n    MADE_UP = "made_up", _("Made up")'), states.__dict__)

import django

django.setup()
from django.apps import apps
from django.db.migrations.autodetector import MigrationAutodetector
from django.db.migrations.loader import MigrationLoader
from django.db.migrations.state import ProjectState
from notifications.inbox.bell import client_strings
from notifications.api import JobInfo
from notifications.models import Job
from notifications.serializers import serialize_job
from notifications.templatetags.notifications import DONE

new = states.JobState.MADE_UP
job = Job(state=new)
assert states.describe_state(job) == client_strings()["made_up"] == "Made up"
assert job.done == serialize_job(job)["done"] == ("made_up" in json.loads(json.dumps(DONE))) == is_done
assert ("'made_up'" in states.sql_list(states.ACTIVE)) != is_done
assert Job._meta.get_field("state").choices == states.JobState.choices

loader = MigrationLoader(None)
changes = MigrationAutodetector(loader.project_state(), ProjectState.from_apps(apps)).changes(graph=loader.graph)
root = Path(spec.origin).parent
lacking = {
    "STATUS of states.py": new not in states.STATUS,
    "LEVELS of states.py": is_done and new not in states.LEVELS,
    "CHANGES of states.py": not any(new in (*change.before, *change.after) for change in states.CHANGES),
    "a migration": "notifications" in changes,
    "the catalogs": all('"Made up"' not in path.read_text() for path in root.glob("locale/*/*/django.po")),
    "the docs": all("`made_up`" not in path.read_text() for path in (root.parent / "docs").rglob("*.md")),
    "openapi.json": '"made_up"' not in (root / "http/openapi.json").read_text(),
}
print(json.dumps([name for name, is_lacking in lacking.items() if is_lacking]))
"""


@pytest.mark.parametrize("kind", ["active", "done"])
def test_a_new_state_is_one_more_word_in_few_places(kind):
    environment = {**os.environ, "DJANGO_SETTINGS_MODULE": "tests.settings"}
    run = subprocess.run(
        [sys.executable, "-c", ADD_A_STATE, kind],
        capture_output=True,
        text=True,
        env=environment,
        cwd=PACKAGE.parent,
    )
    assert run.returncode == 0, run.stderr
    lacking = json.loads(run.stdout.splitlines()[-1])
    assert lacking == [
        "STATUS of states.py",
        *(["LEVELS of states.py"] if kind == "done" else []),
        "CHANGES of states.py",
        *("a migration", "the catalogs", "the docs", "openapi.json"),
    ]
    places = {name.rpartition(" of ")[2] for name in lacking}
    assert len(places) <= 5  # and its code


def _is_state(node):
    match node:
        case ast.Constant(value=str() as text):
            return text in JobState.values
        case ast.Attribute(
            value=ast.Attribute(attr="State", value=ast.Name(id="Job")) | ast.Name(id="JobState")
        ):
            return node.attr in JobState.names
    return False


def _has_set_of_states(path):
    for node in list_nodes(path):
        if isinstance(node, ast.Tuple | ast.List | ast.Set | ast.Dict):
            elements = node.keys if isinstance(node, ast.Dict) else node.elts
            if len(elements) > 1 and all(map(_is_state, elements)):
                return True
        if (
            isinstance(node, ast.Constant)
            and isinstance(node.value, str)
            and re.search(r"state IN \('", node.value)
        ):
            return True
    return False


def test_no_other_module_has_a_set_of_states():
    """A new state would be forgotten there."""
    allowed = {PACKAGE / "states.py", *PACKAGE.rglob("migrations/*.py")}
    found = {
        str(path.relative_to(PACKAGE))
        for path in PACKAGE.rglob("*.py")
        if path not in allowed and _has_set_of_states(path)
    }
    assert found == set()


def test_no_script_has_a_set_of_states():
    literals = re.compile(
        rf"""(["'])({"|".join(JobState.values)})\1,\s*(["'])({"|".join(JobState.values)})\3"""
    )
    scripts = (PACKAGE / "static/notifications").glob("*.js")
    assert [path.name for path in scripts if literals.search(path.read_text())] == []


@pytest.mark.parametrize(
    "line",
    [
        "ACTIVE = ('queued', 'running')",
        "x in [Job.State.FAILED, Job.State.CANCELLED]",
        "q(\"state IN ('a')\")",
    ],
)
def test_sets_of_states_are_found(tmp_path, line):
    (tmp_path / "module.py").write_text(line)
    assert _has_set_of_states(tmp_path / "module.py")


def test_the_sets_are_of_all_states():
    assert {*states.ACTIVE, *states.DONE} == {*states.STATUS} == {*JobState.values}
    assert not {*states.ACTIVE} & {*states.DONE}
    assert {*states.LEVELS} == {*states.DONE} == {*ENDS}
    assert {*states.JobStateName.__args__} == {*JobState.values}
    assert {*states.CLAIMABLE} <= {*states.CANCELLED_AT_ONCE} <= {*states.ACTIVE}
    assert {*states.RETRYABLE, *states.LISTED_BY_INDEX} <= {*states.DONE}


def test_every_state_is_entered_and_every_active_one_left():
    assert {state for change in CHANGES for state in change.after} == {*JobState.values}
    assert {state for change in CHANGES for state in change.before} >= {*states.ACTIVE}


def test_the_modules_make_the_changes_that_are_listed():
    writers = find_writers()
    # The rows that are enqueued have the default of the column.
    assert {change.module for change in CHANGES} - {"enqueueing"} == {*writers} - HELPERS
    for module, path in writers.items():
        written = {state for text in _texts(path) for state in _assigned_states(text)}
        after = {state for change in CHANGES for state in change.after if change.module == module}
        assert written <= after, module


def _texts(path):
    return [
        node.value
        for node in list_nodes(path)
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    ]


def _assigned_states(text):
    return re.findall(r"state\s*=\s*'(\w+)'", text) if SQL_ASSIGNMENT.search(text) else []


def test_the_table_of_the_docs_has_the_changes():
    page = (DOCS / "explanation/architecture.md").read_text()
    table = re.search(r"^### States of a job$(.*?)^### ", page, re.M | re.S)[1]
    rows = re.findall(r"^\| (.+) \| ([a-z, -]+) \| ([a-z, ]+) \| `([a-z_.]+)` \|$", table, re.M)
    assert rows == [
        (change.what, ", ".join(change.before) or "-", ", ".join(change.after), change.module)
        for change in CHANGES
    ]


def test_the_docs_name_the_states():
    *others, last = JobState.values
    listed = ", ".join(f"`{state}`" for state in others) + f" or `{last}`"
    pages = [DOCS / "reference/protocol.md", DOCS / "reference/javascript.md"]
    assert [page.name for page in pages if listed not in page.read_text()] == []
