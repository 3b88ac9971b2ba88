"""What the docs name by a dotted path is there: settings of projects and stored jobs have these paths."""

import ast
import pkgutil
import re
from pathlib import Path

import notifications
from tests.docs.pages import PAGES, ROOT, tables
from tests.support.offenders import collect_offenders
from tests.support.sources import parse

#: A dotted path, with an attribute behind a colon as servers take it, and no part of a file's path or a longer name.
DOTTED_PATH = re.compile(r"(?<![\w./@-])notifications(?:\.\w+)+(?::\w+)?")
#: What else stands behind "notifications.".
NO_IMPORT = re.compile(
    r"notifications\.(?:"
    r"[EIW]\d{3}"  # an id of a system check
    r"|(?:add|answer|change|delete|receive|run|view|withdraw)_\w+"  # a permission
    r"|epoch|ring|stream"  # a model, in a fixture
    r"|py|css|js"  # a file
    r"|v1"  # the subprotocol of the WebSocket
    r"|ready"  # the promise of the browser client
    r"|alerts"  # a logger
    r"|wake"  # a task of Celery
    r"|Command\b.*"  # a class of the module `notifications.management.commands.notifications`
    r")"
)


def find_dotted_paths(text):
    return {path for path in DOTTED_PATH.findall(text) if not NO_IMPORT.fullmatch(path)}


def find_own_tasks():
    """Return the paths of the functions below ``@own_task`` in the package."""
    package = Path(notifications.__file__).parent
    return {
        f"{'.'.join(file.relative_to(ROOT).with_suffix('').parts)}.{node.name}"
        for file in package.rglob("*.py")
        for node in parse(file).body
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and any(ast.unparse(decorator).startswith("own_task(") for decorator in node.decorator_list)
    }


def test_each_dotted_path_is_there():
    with collect_offenders() as offenders:
        for page in PAGES:
            for path in sorted(find_dotted_paths(page.read_text())):
                with offenders.row(f"{page.relative_to(ROOT)}: {path}"):
                    pkgutil.resolve_name(path)


def test_each_task_of_the_app_is_listed():
    rows = [row for table in tables(ROOT / "docs/reference/api.md") for row in table]
    listed = [match[1] for row in rows if (match := re.fullmatch(r"`(notifications\..*)`", row[0]))]
    assert listed == sorted(find_own_tasks())
