"""One function says why jobs wait, and all others ask it."""

import ast
from pathlib import Path

import pytest

import notifications
from tests.support.sources import list_nodes

PACKAGE = Path(notifications.__file__).parent
#: What an answer is made from, and who may read it: the claims and moves of jobs, and the modules of the answer.
FACTS = {"limit_turn", "limited_jobs", "unserved_queues", "find_unserved_queues"}
READERS = ("jobs/claiming/", "jobs/transitions/", "jobs/turns.py", "models/jobs.py")
#: Who says which queues no process takes: the hook, and the app that implements it.
DISPATCH = ("extension/dispatch.py", "contrib/engines/apps.py", "contrib/engines/unserved.py")
#: Methods that narrow a query of jobs.
QUERIES = {"filter", "exclude", "annotate", "Q"}


def list_facts(node):
    """Yield what a node asks of a job to find out why it waits."""
    if isinstance(node, ast.Name | ast.Attribute):
        name = node.id if isinstance(node, ast.Name) else node.attr
        if name in FACTS:
            yield name
    elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name | ast.Attribute):
        called = node.func.id if isinstance(node.func, ast.Name) else node.func.attr
        if called in QUERIES:
            yield from (word.arg for word in node.keywords if (word.arg or "").startswith("executor"))


@pytest.mark.long
def test_nobody_else_asks_for_the_facts():
    found = {
        (path.relative_to(PACKAGE).as_posix(), fact)
        for path in PACKAGE.rglob("*.py")
        for node in list_nodes(path)
        for fact in list_facts(node)
    }
    assert {fact for _, fact in found} >= FACTS | {"executor__in"}
    others = {(path, fact) for path, fact in found if not path.startswith(READERS)}
    assert {path for path, fact in others if path not in DISPATCH or fact != "unserved_queues"} == set()
