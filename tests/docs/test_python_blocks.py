"""Each block of Python in the documentation is valid, imports what exists, and imports what it uses of the app."""

import ast
import importlib
import json
import subprocess
import sys
from pathlib import Path

from notifications import api, exceptions, signals, testing
from tests.docs.pages import PAGES, ROOT, blocks
from tests.support.offenders import collect_offenders

PYTHON_BLOCKS = {
    f"{page.relative_to(ROOT)}, block {number}": block
    for page in PAGES
    for number, block in enumerate(blocks(page, "python"), 1)
}

#: Packages of the projects that the pages describe.
EXAMPLE_PACKAGES = {"config", "mysite", "exports", "ledger", "sms"}
#: Modules that pages name and that cannot be imported here: one would bring protobuf and more, and that of models is of
#: an app that is not installed in the settings of the tests.
MISSING_MODULES = {"django_tasks_db.models", "opentelemetry.exporter.otlp.proto.http.trace_exporter"}

#: Names that a page must import. Others may stand for models, tasks and users of the reader's project.
NAMES_TO_IMPORT = {
    *api.__all__,
    *testing.__all__,
    *vars(exceptions),
    *vars(signals),
    "User",
    "outbound",
    "transaction",
}


def test_blocks_compile_and_import_what_exists():
    """Top-level ``await`` is allowed."""
    with collect_offenders() as offenders:
        for name, block in PYTHON_BLOCKS.items():
            with offenders.row(name):
                resolve_imports(block)


def resolve_imports(block):
    tree = compile(block, "example", "exec", ast.PyCF_ONLY_AST | ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                resolve(alias.name)
        elif isinstance(node, ast.ImportFrom) and not node.level:
            for alias in node.names:
                resolve(node.module, alias.name)


def resolve(module, name=None):
    """Import a module and a name of it. Raises ImportError if one of them does not exist."""
    if module.partition(".")[0] in EXAMPLE_PACKAGES or module in MISSING_MODULES:
        return
    imported = importlib.import_module(module)
    if name and not hasattr(imported, name):
        importlib.import_module(f"{module}.{name}")


def test_pages_import_what_they_use(tmp_path):
    """A name that a page uses is imported in that page, if it is one of the app or of Django."""
    for page in PAGES:
        name = "_".join(page.relative_to(ROOT).with_suffix(".py").parts)
        (tmp_path / name).write_text("\n".join(blocks(page, "python")))
    options = ["--isolated", "--select=F821", "--output-format=json"]
    done = subprocess.run(
        [sys.executable, "-m", "ruff", "check", *options, tmp_path], capture_output=True, text=True
    )
    undefined = [
        (Path(found["filename"]).name, found["message"].split("`")[1]) for found in json.loads(done.stdout)
    ]
    assert undefined, "Names of the reader's project are expected, such as `sites`."
    assert [(page, name) for page, name in undefined if name in NAMES_TO_IMPORT] == []
