"""Files are named after what they do. Which way imports point is a contract in pyproject.toml (lint-imports)."""

import ast
import re
from collections import defaultdict
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

from tests.support.sources import parse

ROOT = Path(__file__).resolve().parent.parent

MAX_LINES = 350
MAX_ENTRIES = 30
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
    *(
        "locale",
        "management",
        "migrations",
        "static",
        "templates",
        "templatetags",
        "py.typed",
        "AGENTS.md",
        "llms.txt",
    ),
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
        for node in parse(path).body:
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


def test_the_page_of_the_support_of_tests_lists_its_modules():
    support = ROOT / "tests/support"
    listed = set(re.findall(r"`(?:faults/)?(\w+)`", (support / "README.md").read_text()))
    modules = {path.stem for path in support.rglob("*.py") if not path.name.startswith(("test_", "__"))}
    assert modules
    assert modules - listed == set()


def test_no_two_modules_import_each_other():
    """Not inside a folder either, where the contracts of import-linter see no order, nor for types."""
    import grimp

    graph = grimp.build_graph("notifications", exclude_type_checking_imports=False, cache_dir=None)
    sorter = TopologicalSorter(
        {name: graph.find_modules_directly_imported_by(name) for name in graph.modules}
    )
    sorter.prepare()


BEFORE_MODELS = "Projects import it before the models are loaded."
WITH_AIOHTTP = "Processes without outbound calls do not load aiohttp."
#: The modules of the package with imports of the package inside functions: how many, and the reason.
LATE_IMPORTS = {
    "apps.py": (6, "Django imports it before the models are loaded."),
    "api.py": (8, BEFORE_MODELS),
    "asgi.py": (7, "Projects import it before Django is set up."),
    "checks.py": (1, "Each command would import the worker otherwise."),
    "contrib/engines/checks.py": (2, "Each command would import the worker otherwise."),
    "contrib/files/apps.py": (1, "Django imports it before the models are loaded."),
    "contrib/output/testing.py": (2, BEFORE_MODELS),
    "contrib/rates/__init__.py": (1, "aiohttp, which processes without outbound calls do without."),
    "contrib/rates/api.py": (1, BEFORE_MODELS),
    "contrib/rates/apps.py": (1, "Django imports it before the models are loaded."),
    "contrib/rates/operations.py": (1, "It needs the package for Prometheus."),
    "contrib/steps/api.py": (1, BEFORE_MODELS),
    "contrib/steps/testing.py": (1, BEFORE_MODELS),
    "contrib/celery/__init__.py": (2, BEFORE_MODELS),
    "contrib/deliveries/checks.py": (1, "Each command would import the app otherwise."),
    "contrib/schedules/apps.py": (1, "Django imports it before the models are loaded."),
    "contrib/schedules/checks.py": (1, "Each command would import the app otherwise."),
    "contrib/schedules/api.py": (3, BEFORE_MODELS),
    "contrib/schedules/decorating.py": (1, BEFORE_MODELS),
    "contrib/webhooks/apps.py": (1, "Django imports it before the models are loaded."),
    "contrib/webhooks/checks.py": (1, "Each command would import the app otherwise."),
    "contrib/deliveries/devices.py": (1, WITH_AIOHTTP),
    "contrib/deliveries/errors.py": (3, WITH_AIOHTTP),
    "contrib/deliveries/pushes.py": (2, WITH_AIOHTTP),
    "contrib/deliveries/testing.py": (6, BEFORE_MODELS),
    "contrib/questions/answers.py": (5, BEFORE_MODELS),
    "contrib/questions/asking.py": (6, BEFORE_MODELS),
    "jobs/waits.py": (5, BEFORE_MODELS),
    "contrib/questions/testing.py": (3, BEFORE_MODELS),
    "contrib/chat/channel.py": (1, WITH_AIOHTTP),
    "contrib/webhooks/callbacks.py": (3, BEFORE_MODELS),
    "contrib/webhooks/calling.py": (3, WITH_AIOHTTP),
    "contrib/webhooks/endpoints.py": (1, WITH_AIOHTTP),
    "contrib/webhooks/sending.py": (1, WITH_AIOHTTP),
    "db/transactions.py": (1, "The models import it."),
    "contrib/deliveries/apps.py": (1, "Django imports it before the models are loaded."),
    "contrib/celery/job_results.py": (1, BEFORE_MODELS),
    "contrib/schedules/operations.py": (2, "The admin and the extra prometheus, for who reads these."),
    **dict.fromkeys(
        ("contrib/deliveries/checks.py", "contrib/schedules/checks.py", "contrib/webhooks/checks.py"),
        (1, "Each start would import what only checks need."),
    ),
    **dict.fromkeys(
        ("contrib/schedules/apps.py", "contrib/webhooks/apps.py"),
        (1, "Django imports it before the models are loaded."),
    ),
    "contrib/engines/apps.py": (3, "Django imports it before the models are loaded."),
    "contrib/engines/backend_task.py": (1, "Other backends import it before the models are loaded."),
    "contrib/operations/apps.py": (1, "Imported before the transaction, not before the models."),
    "contrib/operations/views.py": (1, "It needs the extra prometheus."),
    "jobs/backend.py": (9, BEFORE_MODELS),
    "jobs/info.py": (2, BEFORE_MODELS),
    "jobs/notification_info.py": (3, BEFORE_MODELS),
    "jobs/durable_calls.py": (3, BEFORE_MODELS),
    "management/commands/run_jobs.py": (2, "The supervisor of worker processes loads no worker."),
    "pytest_plugin.py": (6, "pytest loads it before Django is set up."),
    "realtime/servers/daphne.py": (1, "It needs the extra daphne."),
    "realtime/servers/uvicorn.py": (2, "It needs the extra uvicorn."),
    "testing/__init__.py": (3, BEFORE_MODELS),
    "testing/client.py": (3, BEFORE_MODELS),
    "testing/inline.py": (15, BEFORE_MODELS),
}


#: Folders whose modules have the names by which Django finds them, or belong to no list.
UNLISTED = {"commands", "migrations", "templatetags"}


def read_contents(folder):
    """Return the docstring and first comments of `__init__.py`, and the docstring of `apps.py`."""
    source = (folder / "__init__.py").read_text()
    statements = ast.parse(source).body
    end = statements[1].lineno - 1 if len(statements) > 1 else None
    apps = folder / "apps.py"
    docstring = ast.get_docstring(ast.parse(apps.read_text())) if apps.exists() else ""
    return "\n".join([*source.splitlines()[:end], docstring])


def test_each_folder_lists_its_modules():
    """In its `__init__.py` or `apps.py`, by which readers find the module that they look for."""
    package = ROOT / "notifications"
    found, wrong = 0, []
    for init in package.rglob("*/__init__.py"):
        folder = init.parent
        if folder == package / "contrib" or folder.name in UNLISTED:
            continue
        modules = {path.stem for path in folder.glob("*.py")} - {"__init__", "apps"}
        modules |= {path.parent.name for path in folder.glob("*/__init__.py")} - UNLISTED
        contents = read_contents(folder)
        lists = re.findall(r"^(?:# )?([a-z_]+/?(?:(?:, | -> )[a-z_]+/?)*) {2,}\S", contents, re.M)
        listed = {name.strip("/") for line in lists for name in re.split(", | -> ", line)}
        found += len(modules)
        wrong += [f"{folder}: {name} is not listed" for name in modules - set(re.findall(r"\w+", contents))]
        wrong += [f"{folder}: {name} does not exist" for name in listed - modules - UNLISTED]
    assert found
    assert not wrong, "\n".join(sorted(wrong))


def count_late_imports(node, is_inside_function=False):
    """Count the statements inside functions that import from the package."""
    count = 0
    for child in ast.iter_child_nodes(node):
        if is_inside_function and isinstance(child, ast.ImportFrom):
            count += (child.module or "").split(".")[0] == "notifications"
        elif is_inside_function and isinstance(child, ast.Import):
            count += any(alias.name.split(".")[0] == "notifications" for alias in child.names)
        is_function = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        count += count_late_imports(child, is_inside_function or is_function)
    return count


def test_imports_inside_functions_have_a_reason():
    """Where an arrow points up, such an import would only hide it until the function is called."""
    package = ROOT / "notifications"
    counts = {
        str(path.relative_to(package)): count_late_imports(parse(path)) for path in files("notifications")
    }
    assert {path: count for path, count in counts.items() if count} == {
        path: count for path, (count, reason) in LATE_IMPORTS.items()
    }
