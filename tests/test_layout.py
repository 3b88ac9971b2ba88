"""Files are named after what they do. Which way imports point is a contract in pyproject.toml (lint-imports)."""

import ast
from pathlib import Path

import pytest

from tests.support.selection import PATHS_BY_MARKER

ROOT = Path(__file__).resolve().parent.parent

NO_HOMES = {"utils", "util", "services", "helpers", "common", "misc", "base", "core"}


def files(*packages):
    return sorted(path for package in packages for path in (ROOT / package).rglob("*.py"))


def named(path):
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("path", files("notifications", "asyncsite", "tests"), ids=named)
def test_a_file_is_named_after_what_it_does(path):
    """A name that fits everything is no home for anything."""
    assert path.stem not in NO_HOMES


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
