"""Tests of a feature call public names, HTTP, pages and commands, so that what is behind them can be rewritten.

A *private name* is one of a module of `notifications/` that no folder exports to apps (tests/test_public_names.py) or
to projects. A test may use those of the module that it tests: tests/jobs/test_turns.py, test_turns_of_shares.py and
files in tests/jobs/turns/ those of jobs/turns.py. Names of an app's folder and its `testing` are public, and all
models: tests look at rows.
Programs in strings, such as those of `site.python()`, count.
A *patch* replaces a name of the package: `setattr`, `delattr`, `setitem` and `delitem` of pytest, and `mock.patch`.
Each name in the table of tests/support/bounds.py is one, however many tests set it.
*Support* are the lines in files of tests/ that have no tests.

    python -m tests.test_private_names     # the private names by the number of files, and the patches
"""

import ast
import re
import textwrap
from collections import Counter
from functools import cache
from pathlib import Path

import pytest

from tests.support.bounds import GROUPS
from tests.support.sources import list_nodes, parse
from tests.test_public_names import OF_PROJECTS, PUBLIC, list_exports, source_of

pytestmark = [pytest.mark.any_database, pytest.mark.any_django, pytest.mark.long]

#: These only shrink.
MAX_PRIVATE_NAMES = 86
MAX_PATCHES = 320
MAX_SUPPORT_LINES = 14_715
TESTS = Path(__file__).parent
#: Folders of tests with another name than what they test.
FOLDERS = {"commands": "management", "data": "streams"}
PATCHING = {"setattr", "delattr", "setitem", "delitem", "patch", "object", "dict"}
PATCHES = re.compile(r".*\.(set|del)(attr|item)|(mock\.)?patch(\.object|\.dict)?")
OF_APPS = re.compile(
    r"contrib\.\w+(\.\w+)*\.(models|testing)|contrib\.engines\.interface|models|signals|routing"
)


@cache
def names_of(module):
    """Return the names that a module defines or imports, and whether each is public."""
    source = source_of(module)
    names = set()
    for node in parse(source).body:
        for inner in (
            ast.walk(node) if isinstance(node, ast.If | ast.Try | ast.Assign | ast.AnnAssign) else [node]
        ):
            if isinstance(inner, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                names.add(inner.name)
            elif isinstance(inner, ast.Import | ast.ImportFrom):
                names |= {alias.asname or alias.name for alias in inner.names}
            elif isinstance(inner, ast.Name) and isinstance(inner.ctx, ast.Store):
                names.add(inner.id)
    if OF_APPS.fullmatch(module):
        public = names
    elif module in (*PUBLIC, *OF_PROJECTS) or (module.startswith("contrib") and source.name == "__init__.py"):
        public = list_exports(module)
    else:
        public = set()
    return {name: name in public or name.startswith("__") for name in names}


def is_tested_by(path, module):
    """Return whether a file has the unit tests of a module."""
    top, *folders, name = (
        path.relative_to(TESTS).with_suffix("").parts if path.parent != TESTS else ("", path.stem)
    )
    folders = [FOLDERS.get(top, top), *folders] if top else []
    file = ".".join([*folders, name.removeprefix("test_")])
    is_of_file = name.startswith("test_") and re.match(rf"{re.escape(module)}(_|$)", file)
    return bool(is_of_file) or module == ".".join(folders)


def list_imports(nodes):
    """Yield each import of the package, as (module, name, local name); ``name`` is "" for a module."""
    for node in nodes:
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "notifications":
            module = node.module.partition(".")[2]
            for alias in node.names:
                submodule = f"{module}.{alias.name}".strip(".")
                is_exported = module and names_of(module).get(alias.name)
                is_module = source_of(submodule).exists() and not is_exported
                yield (
                    submodule if is_module else module,
                    "" if is_module else alias.name,
                    alias.asname or alias.name,
                )


def list_private_names(path, nodes):
    """Yield the private names that a file uses, as "module.name"."""
    imports = list(list_imports(nodes))
    modules = {local: module for module, name, local in imports if not name}
    used = [(module, name) for module, name, _ in imports if name]
    for node in nodes:
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in modules:
            used.append((modules[node.value.id], node.attr))
        elif isinstance(node, ast.Constant) and "from notifications" in str(node.value):
            try:
                program = ast.parse(textwrap.dedent(node.value).strip())
            except SyntaxError:  # it is a text
                continue
            yield from list_private_names(path, list(ast.walk(program)))
    for module, name in used:
        if names_of(module).get(name) is False and not is_tested_by(path, module):
            yield f"{module}.{name}"


def list_patches(nodes):
    """Yield what of the package a file patches."""
    locals_ = {local for _, _, local in list_imports(nodes)}
    for node in nodes:
        if not isinstance(node, ast.Call) or not node.args:
            continue
        name = getattr(node.func, "attr", getattr(node.func, "id", ""))
        if name in PATCHING and PATCHES.fullmatch(ast.unparse(node.func)):
            target = ast.unparse(node.args[0])
            if re.match(r"f?['\"]notifications\.", target) or re.split(r"\W", target)[0] in locals_:
                yield ", ".join(ast.unparse(argument) for argument in node.args[:2])


def has_tests(path):
    """Return whether classes of other files inherit tests from it."""
    return any(
        isinstance(node, ast.FunctionDef) and node.name.startswith("test_") for node in list_nodes(path)
    )


def count():
    """Return the private names by the number of files, the patches by their number, and the lines of support."""
    names, lines = Counter(), 0
    patches = Counter(name for group in GROUPS.values() for name in group.split())
    for path in TESTS.rglob("*.py"):
        if "notifications" in path.read_text():
            nodes = list_nodes(path)
            names.update(set(list_private_names(path, nodes)))
            patches.update(list_patches(nodes))
        if not path.name.startswith("test_") and not has_tests(path):
            lines += path.read_text().count("\n")
    return names, patches, lines


def test_features_are_tested_by_their_verbs():
    names, patches, lines = count()
    assert len(names) <= MAX_PRIVATE_NAMES, "Use an exported name, HTTP, a page or a command in its place."
    assert patches.total() <= MAX_PATCHES, "Use a setting, or test what can be seen."
    assert lines <= MAX_SUPPORT_LINES


if __name__ == "__main__":
    names, patches, lines = count()
    for counter in (patches, names):
        for name, number in counter.most_common():
            print(number, name)
    print(f"{len(names)} private names, {patches.total()} patches, {lines} lines of support")
