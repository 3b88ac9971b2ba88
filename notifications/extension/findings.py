"""What can be wrong, and what is: the checks that ``doctor``, probes and alerts ask."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any

from django.core.checks import ERROR, CheckMessage

if TYPE_CHECKING:
    from notifications.extension.dimensions import Topic


class Finding(CheckMessage):
    """Something that is wrong with one subject, as ``Error`` and ``Warning`` of Django's checks are with a project.

    ``subject``
        What it is about: a queue, or the key of a row; "" for the project.
    ``facts``
        Numbers and names (JSON), for ``--json``, and of which ``Check.describe()`` makes the text.
    ``since``
        When it began, if that is known.
    """

    def __init__(
        self,
        subject: str = "",
        facts: dict[str, Any] | None = None,
        *,
        since: datetime | None = None,
        level: int = ERROR,
        msg: str = "",
        hint: str | None = None,
    ) -> None:
        super().__init__(level, msg, hint=hint, obj=facts or {})
        self.subject, self.since = subject, since


class Check:
    """Something that can be wrong: ``doctor`` prints what it finds, and alerts are those findings that last.

    ``id``
        How lines of ``doctor`` begin, and the kind of alerts, at most 20 characters.
    ``label``
        What people call it. With a label it is an alert too: of the app ``notifications.contrib.operations``, which
        asks by default every 15 seconds. So it reads a bounded number of rows by an index.
    ``remedy``
        One sentence on what to do, for findings that have none.
    ``model``
        The model of the subjects (``"app.Model"``), whose page in the admin an alert links to.
    """

    id = ""
    label: Any = ""
    remedy = ""
    model = ""

    def find(self, examination: Any) -> Iterable[CheckMessage]:
        """Yield what is wrong: a ``Finding`` for each subject, or messages of Django's checks about the project.

        Called outside of any transaction. An ``Info`` is a line of ``doctor`` that says what is right. An error of the
        database is one more finding.

        ``examination``
            A ``management.Examination``: the time, and what all checks of a round read once.
        """
        return ()

    def describe(self, facts: dict[str, Any]) -> str:
        """Return the text of a finding without one in the active language, from facts that may have been stored."""
        return ""

    def topics(self, announced: Mapping[str, Collection[str]]) -> Iterable[Topic]:
        """Return what is wrong, or was, and has readers of its own, who are notified of it, and of its end.

        Called every few seconds in each process that lasts, on a thread that may run code of the project, outside of
        any transaction. At most two queries.

        ``announced``
            The keys of the topics of which readers were last notified that something is wrong, each with the states of
            which they were. A topic whose readers all know its state may be left out.
        """
        return ()
