"""The shape of the house: imports point one way, and names say what a file does."""

import ast
from pathlib import Path

import pytest

from tests.support.selection import MARKED

ROOT = Path(__file__).resolve().parent.parent

# From the ground up. A module imports from its own layer and from lower ones; what is not named is the top:
# views, consumers, admin, commands, and what a host project imports.
LAYERS = (
    {"ids", "bounds", "paths", "compat", "conf", "exceptions", "signals", "times", "traces"},
    {"models", "migrations"},
    {"transactions", "columns", "bulk", "user_keys", "connection_deadlines", "readable"},
    {"numbering", "streams", "counting", "purging", "listing", "marking", "inbox", "changes", "retention"},
    {"jobs", "realtime", "outbound"},
)
TOP = len(LAYERS)
HIGHER_THAN_THEIR_FOLDER = {"realtime.consumers": TOP, "realtime.daphne_requests": TOP}

NO_HOMES = {"utils", "util", "services", "helpers", "common", "misc", "base", "core"}


def files(*packages):
    return sorted(path for package in packages for path in (ROOT / package).rglob("*.py"))


def named(path):
    return str(path.relative_to(ROOT))


def imported(path):
    """Dotted names that a file imports, anywhere in it; a `from` gives the module and each of its names."""
    package = path.relative_to(ROOT).parts[:-1]
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = list(package[: len(package) - node.level + 1]) if node.level else []
            module = ".".join([*base, *filter(None, [node.module])])
            yield module
            yield from (f"{module}.{alias.name}" for alias in node.names)


def layer(name):
    """The layer of a dotted name below notifications, like jobs.states."""
    if name in HIGHER_THAN_THEIR_FOLDER:
        return HIGHER_THAN_THEIR_FOLDER[name]
    return next((number for number, names in enumerate(LAYERS) if name.split(".")[0] in names), TOP)


@pytest.mark.parametrize("path", files("notifications"), ids=named)
def test_imports_point_down(path):
    """views, consumers, admin, commands -> jobs, realtime -> streams -> models -> conf, signals."""
    own = ".".join(path.relative_to(ROOT / "notifications").with_suffix("").parts)
    exists = {".".join(file.relative_to(ROOT).with_suffix("").parts) for file in files("notifications")}
    wrong = [
        name
        for name in imported(path)
        if name in exists and layer(name.removeprefix("notifications.")) > layer(own)
    ]
    assert not wrong, f"{named(path)} imports from above: {', '.join(wrong)}"


@pytest.mark.parametrize("path", files("notifications"), ids=named)
def test_the_app_knows_nothing_of_the_site(path):
    """Nothing in notifications imports asyncsite or the tests."""
    assert not [name for name in imported(path) if name.split(".")[0] in ("asyncsite", "tests")]


@pytest.mark.parametrize("path", files("notifications/jobs"), ids=named)
def test_jobs_do_not_know_who_listens(path):
    """jobs send a signal after the commit; the doorbell listens, and is handed to the worker from above."""
    assert not [name for name in imported(path) if name.startswith("notifications.realtime")]


def test_an_upward_import_is_found(tmp_path, monkeypatch):
    """The test above fails where it should, also for an import inside a function and a relative one."""
    monkeypatch.setattr("tests.test_layout.ROOT", tmp_path)
    (tmp_path / "notifications").mkdir()
    (tmp_path / "notifications/http/api_views.py").write_text("")
    models = tmp_path / "notifications/models.py"
    for line in (
        "from notifications.http import api_views",
        "from . import views",
        "def f():\n    import notifications.http.api_views",
    ):
        models.write_text(line)
        with pytest.raises(AssertionError, match=r"models.py imports from above: notifications\.views"):
            test_imports_point_down(models)


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
    """A file that was moved keeps its markers: its path in selection.MARKED is moved too."""
    missing = [path for paths in MARKED.values() for path in paths if not (ROOT / "tests" / path).exists()]
    assert not missing
