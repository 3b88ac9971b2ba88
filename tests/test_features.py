"""Core and edge neither import a feature nor use its tables. What is left of both is listed, and the lists only shrink.

A feature is what becomes an app of its own below `contrib/`. The contract "Core and edge import no feature" in
pyproject.toml says of each module what it is, and lists the imports. The tables are below.
"""

import ast
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import grimp
import pytest
from django.apps import apps

pytestmark = [pytest.mark.any_database, pytest.mark.any_django]

ROOT = Path(__file__).resolve().parent.parent
THIS_FILE = str(Path(__file__).relative_to(ROOT))

#: Modules of core and edge, and the tables of features whose names or models they use.
TABLES_IN_CORE = {}


def read_contract(text):
    contracts = tomllib.loads(text)["tool"]["importlinter"]["contracts"]
    return next(contract for contract in contracts if contract.get("id") == "features")


def read_previous(path):
    """Return the text of a file before the last change: at HEAD, or before HEAD if the file is as it is there."""
    for revision in ("HEAD", "HEAD~1"):
        command = ["git", "-C", str(ROOT), "show", f"{revision}:{path}"]
        done = shutil.which("git") and subprocess.run(command, capture_output=True, text=True)
        if not done or done.returncode:
            pytest.skip(f"git has no {path} at {revision}, as in a shallow clone.")
        if done.stdout != (ROOT / path).read_text():
            break
    return done.stdout


CONTRACT = read_contract((ROOT / "pyproject.toml").read_text())


@pytest.fixture(scope="module")
def graph():
    return grimp.build_graph("notifications", cache_dir=None)


def find_modules(graph, expressions):
    """Return the modules that the contract names by these expressions."""
    return {
        module
        for expression in expressions
        for module in (graph.find_matching_modules(expression) if "*" in expression else {expression})
    }


def test_each_module_is_core_or_edge_or_a_feature(graph):
    """A new module is named too, or the contract would not see what it imports."""
    sources = find_modules(graph, CONTRACT["source_modules"])
    features = find_modules(graph, CONTRACT["forbidden_modules"])
    assert sorted(graph.modules - {"notifications"} - sources - features) == []
    assert sorted(sources & features) == []


def test_no_import_of_a_feature_is_added():
    previous = read_contract(read_previous("pyproject.toml"))
    added = set(CONTRACT["ignore_imports"]) - set(previous["ignore_imports"])
    assert not added, "Let the feature attach itself to the core: the list of its imports only shrinks."


def test_the_contract_names_an_import_of_a_feature(tmp_path):
    shutil.copytree(
        ROOT / "notifications",
        tmp_path / "notifications",
        ignore=lambda folder, names: {name for name in names if "." in name and not name.endswith(".py")},
    )
    feature = CONTRACT["forbidden_modules"][0]
    with (tmp_path / "notifications/conf.py").open("a") as file:
        file.write(f"import {feature}\n")
    done = subprocess.run(
        [
            *(Path(sys.executable).with_name("lint-imports"), "--no-cache", "--contract", "features"),
            *("--config", ROOT / "pyproject.toml"),
        ],
        env={"PYTHONPATH": f"{tmp_path}:{ROOT}", "COLUMNS": "200"},
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    assert f"{CONTRACT['name']} BROKEN" in done.stdout
    assert f"notifications.conf -> {feature} (" in done.stdout


def find_tables_in_core(graph):
    """Return the tables of features by the modules of core and edge that use them, each without the package's name.

    A module uses a table if a string in it has its name as a word, docstrings too, or if it imports the model.
    """
    features = find_modules(graph, CONTRACT["forbidden_modules"])
    models = {
        model.__name__: model._meta.db_table
        for model in apps.get_models(include_auto_created=True)
        if model.__module__ in features and not model._meta.proxy  # of a table of the core
    }
    assert models
    names = re.compile(rf"\b({'|'.join(models.values())})\b")
    found = {}
    for module in find_modules(graph, CONTRACT["source_modules"]):
        path = ROOT / module.replace(".", "/")
        path = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
        tables = set()
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                tables.update(names.findall(node.value))
            elif isinstance(node, ast.ImportFrom) and node.module == "notifications.models":
                tables.update(models[alias.name] for alias in node.names if alias.name in models)
        if tables and not module.startswith("notifications.migrations."):
            found[module.partition(".")[2]] = {table.partition("_")[2] for table in tables}
    return found


def test_core_and_edge_use_no_table_of_a_feature(graph):
    assert find_tables_in_core(graph) == TABLES_IN_CORE


def test_no_use_of_a_features_table_is_added():
    previous = next(
        ast.literal_eval(node.value)
        for node in ast.parse(read_previous(THIS_FILE)).body
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "TABLES_IN_CORE"
    )
    added = {module: tables - previous.get(module, set()) for module, tables in TABLES_IN_CORE.items()}
    assert not any(added.values()), added
