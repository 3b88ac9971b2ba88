"""Only modules of ``jobs/transitions/`` write the state of a job."""

import ast
import re
from pathlib import Path

import pytest

import notifications
from tests.support.sources import list_nodes

PACKAGE = Path(notifications.__file__).parent
TRANSITIONS = PACKAGE / "jobs" / "transitions"
#: They change executors and times of queued jobs, by conditional updates that leave the state.
DISPATCH_MODULES = {
    PACKAGE / "contrib/engines" / f"{name}.py"
    for name in ("dispatching", "own_senders", "quarantine", "resending")
}
#: Adapters of ASGI servers know no jobs, and assign the state of a server's WebSocket protocol.
SERVERS = PACKAGE / "realtime" / "servers"
#: Broadcasts, deliveries and what is announced have states of their own.
BROADCASTS, ANNOUNCING = PACKAGE / "contrib" / "broadcasts", PACKAGE / "jobs" / "announcing.py"
DELIVERIES = PACKAGE / "contrib/deliveries"
#: Functions of ``conditional_updates`` that change rows of jobs.
CONDITIONAL_UPDATES = {"conditional_update", "update_locked_rows"}
#: Calls that write the columns that they are given by keyword or by name.
ROW_WRITES = {
    "Job",
    "bulk_create",
    "bulk_update",
    "create",
    "new",
    "new_batch",
    "save",
    "update",
    "update_or_create",
    "update_rows",
}
#: An assignment in SQL, not a condition such as ``WHERE state = 'queued'``.
SQL_ASSIGNMENT = re.compile(r"(?:\bSET\s+(?:[^;]*,\s*)?|^\s*|,\s*)state\s*=(?!=)", re.IGNORECASE)


def find_state_writes(nodes, *, with_conditional_updates=True):
    """Return the lines of a module that write the state of a job, or may do so by a conditional update."""
    docstrings = {
        id(node.body[0].value)
        for node in nodes
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
        and node.body
        and isinstance(node.body[0], ast.Expr)
        and isinstance(node.body[0].value, ast.Constant)
    }
    states_of_workers = {
        id(target)
        for node in nodes
        if isinstance(node, ast.Assign) and _is_call_of(node.value, "WorkerState")
        for target in node.targets
    }
    return sorted(
        {
            node.lineno
            for node in nodes
            if (_writes_state(node) or (with_conditional_updates and _is_conditional_update(node)))
            and id(node) not in docstrings | states_of_workers
        }
    )


def _is_call_of(node, name):
    match node:
        case ast.Call(func=ast.Name(id=called)):
            return called == name
    return False


def _writes_state(node):
    match node:
        case ast.Attribute(attr="state", ctx=ast.Store() | ast.Del()):
            return True
        case ast.Constant(value=str() as text):
            return bool(SQL_ASSIGNMENT.search(text))
        case ast.Call(func=ast.Name(id=name) | ast.Attribute(attr=name)):
            return name in ROW_WRITES | {"setattr"} and _names_state(node)
    return False


def _is_conditional_update(node):
    match node:
        case ast.Call(func=ast.Name(id=name) | ast.Attribute(attr=name)):
            return name in CONDITIONAL_UPDATES
    return False


def _names_state(call):
    if any(keyword.arg == "state" for keyword in call.keywords):
        return True
    values = [*call.args, *(keyword.value for keyword in call.keywords)]
    constants = [node for value in values for node in ast.walk(value) if isinstance(node, ast.Constant)]
    return any(constant.value == "state" for constant in constants)


def find_writers():
    """Return the paths of the modules that write the state of a job, by their names in ``notifications.states``."""
    modules = {path.stem: path for path in TRANSITIONS.glob("*.py")}
    return {name: path for name, path in modules.items() if find_state_writes(list_nodes(path))}


@pytest.mark.long
def test_no_other_module_writes_the_state_of_a_job():
    allowed = {TRANSITIONS, PACKAGE / "migrations", SERVERS, BROADCASTS, DELIVERIES, ANNOUNCING}
    modules = [path for path in PACKAGE.rglob("*.py") if not allowed & {path, *path.parents}]
    writes = {
        str(path.relative_to(PACKAGE)): find_state_writes(
            list_nodes(path), with_conditional_updates=path not in DISPATCH_MODULES
        )
        for path in modules
    }
    assert {path: lines for path, lines in writes.items() if lines} == {}


def test_the_transitions_are_found():
    """Without this check, the test above would also pass if the search found nothing."""
    modules = {*find_writers()}
    assert modules >= {"batch_completion", "claims", "manual", "queueing", "reaping", "recording"}


@pytest.mark.parametrize(
    "line",
    [
        "job.state = Job.State.QUEUED",
        "job.state, job.result = 'failed', None",
        "del job.state",
        "setattr(job, 'state', 'queued')",
        "Job(id=id, state='running')",
        "Job.objects.filter(id=id).update(state='queued')",
        "Job.objects.filter(id=id).update(**{'state': 'queued'})",
        "Job.objects.bulk_update(jobs, ['state'])",
        "job.save(update_fields=('state',))",
        "bulk.update_rows(Job, ('state', 'worker'), ('id',), rows)",
        "conditional_update(assignments, rows)",
        "conditional_updates.update_locked_rows(columns, rows)",
        "cursor.execute(\"UPDATE notifications_job SET state='queued' WHERE id=%s\")",
        "cursor.execute(f'UPDATE notifications_job SET worker=NULL, state = %s WHERE id={id}')",
        "ASSIGNMENTS = ('fence = fence + 1', \"state = 'running'\")",
    ],
)
def test_each_way_to_write_is_found(line):
    assert find_state_writes([*ast.walk(ast.parse(line))]) == [1]


@pytest.mark.parametrize(
    "line",
    [
        "state = row['state']",
        "Job.objects.filter(state='queued').values_list('id', 'state')",
        "cursor.execute(\"SELECT id FROM notifications_job WHERE state = 'queued' AND executor = %s\")",
        "Queue.objects.update_or_create(name=name)",
    ],
)
def test_reading_is_not_a_write(line):
    assert find_state_writes([*ast.walk(ast.parse(line))]) == []
