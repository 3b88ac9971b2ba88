"""Which rows of an extension are deleted, with what and when."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from notifications.extension.dimensions import Pruned


class TableHooks:
    """What an extension says of its tables: which rows belong to jobs, notifications and users."""

    #: Its rows that are deleted with their jobs: the column of the job's id, which has an index, by the label of the
    #: model: ``{"sms.Message": "job"}``. One transaction deletes a job with all of them; those of a job that has over
    #: 1,000 are deleted in several before.
    rows_of_jobs: ClassVar[Mapping[str, str]] = {}

    #: The same of notifications.
    rows_of_notifications: ClassVar[Mapping[str, str]] = {}

    #: Its rows that are of a user, or name one: the column of the user's key, which has an index unless the rows are
    #: few, by the label of the model: ``{"sms.Number": "user_id"}``. ``prune`` looks for users that do not exist,
    #: because they were deleted while the extension was not installed, and calls ``delete_of_users()``. In the same way
    #: it finds rows of ``rows_of_jobs`` and ``rows_of_notifications``, and deletes them.
    rows_of_users: ClassVar[Mapping[str, str]] = {}

    #: Its rows that ``prune`` deletes by their age.
    pruned: Sequence[Pruned] = ()

    def delete_of_users(self, keys: Sequence[Any]) -> int:
        """Delete a chunk of the rows of deleted users, or clear the column that names them; return how many.

        Called inside the transaction that deletes a chunk of these users' rows, on the thread that purges, until it
        returns 0. It is repeated. What the core knows of the users, such as their streams, is deleted afterwards.

        ``keys``
            Those of the users, as the database stores them. See ``streams.purging.clear_users``.
        """
        return 0

    def prune_orphans(self) -> int:
        """Delete or correct a chunk of rows that refer to what does not exist any more; return how many.

        Called inside a transaction of each pruning, until it returns 0, for what declared columns do not find. One
        user: questions, whose notifications stay open if their wait is gone.
        """
        return 0
