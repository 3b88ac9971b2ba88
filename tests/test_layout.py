"""Files are named after what they do. Which way imports point is a contract in pyproject.toml (lint-imports)."""

import ast
from collections import defaultdict
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

from tests.support.selection import PATHS_BY_MARKER

ROOT = Path(__file__).resolve().parent.parent

MAX_LINES = 350
MAX_ENTRIES = 31
#: What Django looks for in an app by its name.
DJANGO_NAMES = {
    *(
        "__init__.py",
        "admin",
        "apps.py",
        "asgi.py",
        "checks.py",
        "models",
        "receivers.py",
        "routing.py",
        "urls.py",
    ),
    *("locale", "management", "migrations", "static", "templates", "templatetags", "py.typed"),
}
#: Classes that Django finds by their name.
DJANGO_CLASSES = {"Command", "Migration"}

NO_HOMES = {"utils", "util", "services", "helpers", "common", "misc", "base", "core"}


def files(*packages):
    return sorted(path for package in packages for path in (ROOT / package).rglob("*.py"))


def named(path):
    return str(path.relative_to(ROOT))


def test_a_file_is_named_after_what_it_does():
    """A name that fits everything is no home for anything."""
    paths = files("notifications", "asyncsite", "tests")
    assert paths
    wrong = [named(path) for path in paths if path.stem in NO_HOMES]
    assert not wrong, "\n".join(wrong)


def test_the_app_has_few_rooms():
    """A newcomer finds the room of a change in a minute."""
    entries = {path.name for path in (ROOT / "notifications").iterdir() if path.name != "__pycache__"}
    assert len(entries - DJANGO_NAMES) <= MAX_ENTRIES, sorted(entries - DJANGO_NAMES)


def test_a_file_is_short_enough_to_be_read_at_once():
    scripts = sorted((ROOT / "notifications/static").rglob("*.js"))
    assert scripts
    lengths = {
        named(path): len(path.read_text().splitlines())
        for path in [*files("notifications", "asyncsite"), *scripts]
        if path.parent.name != "migrations"
    }
    too_long = [f"{path}: {length} lines" for path, length in lengths.items() if length > MAX_LINES]
    assert not too_long, "\n".join(too_long)


@pytest.mark.parametrize("package", ["notifications", "asyncsite"])
def test_no_two_public_classes_have_one_name(package):
    """One name has one meaning, in a traceback, in an import and in a conversation."""
    homes = defaultdict(list)
    for path in files(package):
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.ClassDef) and node.name[0] != "_" and node.name not in DJANGO_CLASSES:
                homes[node.name].append(named(path))
    assert not {name: paths for name, paths in homes.items() if len(paths) > 1}


def test_no_submodule_has_a_public_functions_name():
    """`notifications.notify` would be a module to one reader and a function to the next."""
    api = ast.parse((ROOT / "notifications/api.py").read_text())
    exported = next(
        ast.literal_eval(node.value)
        for node in api.body
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__"
    )
    assert "notify" in exported
    assert not set(exported) & {path.stem for path in (ROOT / "notifications").glob("*.py")}


def test_marked_files_exist():
    """A file that was moved keeps its markers: its path in selection.PATHS_BY_MARKER is moved too."""
    missing = [
        path for paths in PATHS_BY_MARKER.values() for path in paths if not (ROOT / "tests" / path).exists()
    ]
    assert not missing


def test_no_two_modules_import_each_other():
    """Not inside a folder either, where the contracts of import-linter see no order, nor for types."""
    import grimp

    graph = grimp.build_graph("notifications", exclude_type_checking_imports=False, cache_dir=None)
    sorter = TopologicalSorter(
        {name: graph.find_modules_directly_imported_by(name) for name in graph.modules}
    )
    sorter.prepare()
