"""Only modules of ``streams/`` write streams: a writer in another folder could break the lock order and lose seqs."""

import ast
import re
from pathlib import Path

import pytest

import notifications

PACKAGE = Path(notifications.__file__).parent
OUTSIDE = [
    path
    for path in sorted(PACKAGE.rglob("*.py"))
    if not path.is_relative_to(PACKAGE / "streams") and not re.match(r"\d{4}_", path.name)
]

#: SQL that writes the table. "WHERE 0" writes no row: it takes SQLite's lock at the start of a transaction.
WRITE = re.compile(
    r"(INSERT\s+INTO|UPDATE|DELETE\s+FROM)\s+\W?notifications_stream\b(?!\W?\s+WHERE 0)", re.IGNORECASE
)


def writes_of(source):
    """Return the numbers of the lines that write streams, or use the model for more than its fields and database."""
    tree = ast.parse(source)
    parents = {child: parent for parent in ast.walk(tree) for child in ast.iter_child_nodes(parent)}
    lines = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and WRITE.search(node.value):
            lines.append(node.lineno)
        is_model = (isinstance(node, ast.Name) and node.id == "Stream") or (
            isinstance(node, ast.Attribute) and node.attr == "Stream"
        )
        if is_model and isinstance(node.ctx, ast.Load):
            parent = parents[node]
            is_field_access = isinstance(parent, ast.Attribute) and parent.attr == "_meta"
            is_routing = isinstance(parent, ast.Call) and ast.unparse(parent.func) == "router.db_for_write"
            if not (is_field_access or is_routing):
                lines.append(node.lineno)
    return lines


def imports_model(source):
    """Return whether a module imports the model ``Stream``, and not a class of another package with that name."""
    return re.search(r"notifications\.models import [^\n]*\bStream\b|import models", source) is not None


def test_only_the_package_streams_writes_streams():
    """No module outside of ``streams/`` writes streams."""
    sources = {str(path.relative_to(PACKAGE)): path.read_text() for path in OUTSIDE}
    assert sources
    writes = [
        f"{path}:{line}"
        for path, source in sources.items()
        if "notifications_stream" in source or imports_model(source)
        for line in writes_of(source)
    ]
    assert not writes, "\n".join(writes)


@pytest.mark.parametrize(
    "line",
    [
        'cursor.execute("UPDATE notifications_stream SET unread = 0")',
        'cursor.execute(f"insert into notifications_stream ({columns}) VALUES ({marks})")',
        "cursor.execute('DELETE FROM \"notifications_stream\" WHERE user_id = 1')",
        "Stream.objects.filter(user=1).update(unread=0)",
        "Stream(user_id=1).save()",
        'bulk.update_rows(Stream, ("head",), ("user_id",), rows)',
        "models.Stream.objects.create(user_id=1)",
    ],
)
def test_write_is_found(line):
    """writes_of() finds SQL and uses of the model that write streams."""
    assert writes_of(line) == [1]


@pytest.mark.parametrize(
    "line",
    [
        'cursor.execute("DELETE FROM notifications_stream WHERE 0")',
        'cursor.execute("SELECT head FROM notifications_stream")',
        "router.db_for_write(Stream)",
        "Stream._meta.pk.target_field",
    ],
)
def test_read_is_not_found(line):
    """writes_of() ignores reads, and the statement that only takes SQLite's lock."""
    assert writes_of(line) == []
