"""Optional apps, the site and the benchmarks use only names that a folder of the core exports in its `__init__.py`."""

import ast
import subprocess
import sys
from collections import defaultdict
from importlib import import_module
from inspect import isclass, isfunction
from pathlib import Path

import pytest

from notifications import outbound

pytestmark = [pytest.mark.any_database, pytest.mark.any_django]

ROOT = Path(__file__).resolve().parent.parent
#: The folders and modules of the core with names for apps.
PUBLIC = (
    *("admin", "conf", "db", "extension", "http", "inbox", "jobs", "management", "models", "outbound"),
    *("realtime", "streams", "times", "validators", "worker"),
)
#: The modules that projects import, too. docs/reference/ describes them, and all of ``__all__`` of ``outbound``.
OF_PROJECTS = ("api", "asgi", "exceptions", "management.commands.notifications", "testing", "urls")
#: Django imports these after its setup only, as they have models, or rows of models.
AFTER_SETUP = {"admin", "models", "streams"}
#: The names of a folder or module, and of all. ``extension`` has those of all hooks. These only shrink.
MAX_NAMES = 26
MAX_NAMES_OF_HOOKS = 27
MAX_NAMES_IN_ALL = 189
MAX_EXCEPTIONS = 46
#: What apps import from modules of the core without an export. This list only gets shorter.
EXCEPTIONS: dict[str, dict[str, str]] = {
    "bench": {
        "api": "aquestion",
        "testing": "answer_question",
        "worker.embedded": "start",
    },
    "broadcasts": {
        "jobs.notifying": "chunk_size create_chunk",
        "jobs.reader_languages": "read_languages",
    },
    "celery": {
        "jobs.declaring.policies": "change_policy declared_policy job_title",
    },
    "deliveries": {
        "db.clock": "is_in_force",
        "db.threads": "close_when_idle",
    },
    "engines": {
        "compat": "TaskResultDoesNotExist is_test_runner",
        "db.transactions": "on_commit_merged",
        "jobs.backend": "find_job_backends",
        "management.diagnosis.checking": "explain",
        "management.diagnosis.processes": "measure_round_trip",
    },
    "operations": {
        "admin.confirmation": "LOG_TEXTS ask question read_form",
        "db.clock": "longest_lease",
        "jobs.arguments": "find_jobs",
        "lazy_names": "export_lazily",
        "realtime.doorbell": "doorbell",
        "templatetags.notifications_formats": "duration rate",
    },
    "questions": {
        "inbox.pages": "describe_notification",
        "jobs.notifying": "number record_change",
        "jobs.owed_calls": "run_owing",
        "jobs.reader_languages": "has_lazy read_site_languages",
        "jobs.step_list": "read_steps",
        "jobs.transitions.waiting": "insert_notifications_of update_waiting_jobs",
    },
    "schedules": {
        "compat": "normalize_json",
    },
    "webhooks": {
        "db.clock": "is_in_force",
        "jobs.declaring.policies": "owner_share sender_key",
        "jobs.limits": "retry_within_rate",
        "jobs.notifying": "signaled_tasks",
        "serializers": "job_error make_item",
    },
}


def source_of(module):
    path = ROOT / "notifications" / module.replace(".", "/")
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


def list_exports(module):
    """Return the names that a folder or module of the core exports."""
    source = source_of(module)
    tree = ast.parse(source.read_text())
    exported, has_list = set(), False
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and module != "models":  # it imports all models, for Django
            exported |= {alias.name for alias in node.names if alias.asname == alias.name}
        elif isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
            exported |= set(ast.literal_eval(node.value))
            has_list = True
    if not has_list and source.name != "__init__.py":
        for node in tree.body:
            if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                exported.add(node.name)
            elif isinstance(node, ast.Assign | ast.AnnAssign):
                targets = node.targets if isinstance(node, ast.Assign) else [node.target]
                exported |= {
                    name.id for target in targets for name in ast.walk(target) if isinstance(name, ast.Name)
                }
    return {name for name in exported if name[0] != "_"} - {"P", "R", "T", "compat", "logger"}


def read_imports():
    """Yield the app, the module of the core without `notifications.`, and the name, of each use of the core.

    A name that is used as `module.name` counts as one of the module.
    """
    folders = ("notifications/contrib", "asyncsite", "bench")
    for path in sorted(path for folder in folders for path in (ROOT / folder).rglob("*.py")):
        parts = path.relative_to(ROOT).parts
        app = parts[2].removesuffix(".py") if parts[0] == "notifications" else parts[0]
        tree = ast.parse(path.read_text())
        attributes = defaultdict(set)
        for node in ast.walk(tree):
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
                attributes[node.value.id].add(node.attr)
        for node in ast.walk(tree):
            if isinstance(node, ast.Import):
                imported = [(alias.name, "", alias.asname or alias.name) for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                above = list(parts[: len(parts) - node.level]) if node.level else []
                module = ".".join([*above, *([node.module] if node.module else [])])
                imported = [(module, alias.name, alias.asname or alias.name) for alias in node.names]
            else:
                continue
            for module, name, local in imported:
                top, _, module = module.partition(".")
                if top != "notifications" or module.startswith("contrib"):
                    continue
                submodule = f"{module}.{name}".strip(".")
                is_name = not name or (module in PUBLIC and name in list_exports(module))
                if is_name or not source_of(submodule).exists():
                    yield app, module, name or "*"
                else:
                    yield from ((app, submodule, attribute) for attribute in attributes[local] or {"*"})


def find_private_imports():
    """Return what each app uses that is not exported: names by module, "*" for a module of which it uses no name."""
    exports = {module: list_exports(module) | {"*"} for module in (*PUBLIC, *OF_PROJECTS)}
    found = defaultdict(lambda: defaultdict(set))
    for app, module, name in read_imports():
        if name not in exports.get(module, ()):
            found[app][module].add(name)
    return {
        app: {module: " ".join(sorted(names)) for module, names in sorted(modules.items())}
        for app, modules in sorted(found.items())
    }


@pytest.mark.long
def test_apps_use_what_the_core_exports():
    """What our own apps use, an app of a stranger may use; what is behind it can be rewritten."""
    assert find_private_imports() == EXCEPTIONS


def test_there_are_few_names():
    counts = {module: len(list_exports(module)) for module in PUBLIC}
    counts["outbound"] -= len(outbound.__all__)  # the API of projects
    assert sum(counts.values()) <= MAX_NAMES_IN_ALL
    assert counts.pop("extension") <= MAX_NAMES_OF_HOOKS
    assert not {module: count for module, count in counts.items() if count > MAX_NAMES}
    assert (
        sum(len(names.split()) for modules in EXCEPTIONS.values() for names in modules.values())
        <= MAX_EXCEPTIONS
    )


def test_each_export_exists_and_is_described():
    """Type checkers read the imports of an `__init__.py`, Python its table of names."""
    wrong = []
    for module in PUBLIC:
        exporter = import_module(f"notifications.{module}")
        for name in list_exports(module):
            value = getattr(exporter, name, None)
            if value is None:
                wrong.append(f"{module}.{name} does not exist")
            is_own = getattr(value, "__module__", "").startswith("notifications")
            if is_own and (isfunction(value) or isclass(value)) and not is_described(value):
                wrong.append(f"{module}.{name} has no docstring")
        with pytest.raises(AttributeError, match="not_a_name"):
            exporter.not_a_name  # noqa: B018
    assert not wrong, "\n".join(sorted(wrong))


def is_described(value):
    """Return whether a function or class has a docstring of its own, not one that is made by dataclass or Django."""
    return bool(value.__doc__) and not value.__doc__.startswith(f"{value.__name__}(")


def test_folders_are_imported_before_django_is_set_up():
    """An app may import names in modules that Django loads first: its `apps.py`, settings, modules of tasks."""
    modules = [f"notifications.{module}" for module in PUBLIC if module not in AFTER_SETUP]
    code = f"import importlib\nfor module in {modules}: importlib.import_module(module)"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT, env={"PATH": ""})
