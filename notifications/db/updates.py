"""Give rows new values by their primary keys."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from django.db.models import Model

from notifications.db.adapters import adapters
from notifications.db.bulk import update_rows
from notifications.db.transactions import connection


def update_rows_by_id(
    model: type[Model],
    columns: Sequence[str],
    rows: Mapping[Any, Sequence[Any]],
    *,
    assignments: Sequence[str] = (),
) -> None:
    """Update rows that this transaction has locked, in one statement for each set of values, one on PostgreSQL.

    ``columns``
        Attributes of the model, which are also its columns.
    ``rows``
        The new values of ``columns`` by the primary key of each row.
    ``assignments``
        Others, which are the same for all rows: ``"version = version + 1"``.
    """
    fields = [model._meta.get_field(name) for name in columns]
    adapting = adapters((model, tuple(columns), "id"), [*fields, model._meta.pk], connection())
    converted = [
        [
            value if value is None or adapt is None else adapt(value)
            for value, (_, adapt) in zip((*values, id), adapting, strict=True)
        ]
        for id, values in rows.items()
    ]
    assert model._meta.pk is not None
    update_rows(model, columns, (model._meta.pk.column,), converted, assignments=assignments)
