"""Filters that are conditions of a ``JobFilter``, so that a job can change all that a list finds."""

from __future__ import annotations

from typing import Any

from django.contrib.admin.options import IncorrectLookupParameters
from django.http import HttpRequest

from notifications.admin.filters import FormFilter
from notifications.contrib.operations.matching import JobFilter


class JobListFilter(FormFilter):
    """A filter whose value is a condition of ``JobFilter``."""

    def condition(self) -> dict[str, Any]:
        """Return arguments of ``JobFilter``. Raises ValueError for a value that none can have."""
        raise NotImplementedError

    def own_parameters(self) -> set[str]:
        """Return the parameters of the page's address that this filter has taken.

        A filter before it in the list may have taken one of the same name, so that this one has no value.
        """
        return set(self.used_parameters)

    def queryset(self, request: HttpRequest, queryset: Any) -> Any:
        try:
            return JobFilter(**self.condition()).apply(queryset)
        except ValueError as exc:
            raise IncorrectLookupParameters(exc) from exc


def read_filter(changelist: Any) -> JobFilter:
    """Return the conditions of all filters of a list of jobs and of its search. Raises ValueError."""
    conditions = {"search": changelist.query}
    for spec in changelist.filter_specs:
        if isinstance(spec, JobListFilter):
            conditions |= spec.condition()
    return JobFilter(**conditions)


def other_parameters(changelist: Any) -> list[str]:
    """Return the names of parameters of a list that no filter of this module has taken."""
    specs = (spec for spec in changelist.filter_specs if isinstance(spec, JobListFilter))
    known = {name for spec in specs for name in spec.own_parameters()}
    return sorted(set(changelist.get_filters_params()) - known)
