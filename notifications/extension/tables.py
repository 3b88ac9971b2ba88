"""Which rows of an extension are deleted, with what and when."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

#: What a column may have: see ``TableHooks.tables``. It may also have the key of a row of a model of the extension.
KINDS = ("job", "notification", "user", "named user", "age")


class TableHooks:
    """What an extension says of its tables: which rows belong to jobs, notifications and users."""

    #: What becomes of its rows, by their columns: ``{"sms.Receipt.notification": "notification"}``. A column has
    #:
    #: - ``"job"`` or ``"notification"``: the id of one, with which the row is deleted in one transaction; those of one
    #:   that has over 1,000 are deleted in several before. The column has an index.
    #: - ``"user"``: the key of one, with whom the row is deleted. The column has an index unless the rows are few, and
    #:   its name is that of the database (``user_id``).
    #: - ``"named user"``: the same, of a row that stays. The column is set to NULL.
    #: - ``"age"``: the time from which the row is kept for ``RETENTION``. The column has an index.
    #: - the label of a model of its own, as ``"sms.Number"``: the key of one of its rows that are deleted with users,
    #:   before which this one is.
    #:
    #: ``prune`` also finds rows of jobs, notifications and users that were deleted while the extension was not
    #: installed.
    tables: ClassVar[Mapping[str, str]] = {}
