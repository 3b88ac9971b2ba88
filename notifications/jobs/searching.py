"""How lists of jobs are searched."""

from __future__ import annotations

from django.db.models import Q

from notifications.ids import parse_id


def search_condition(text: str) -> Q:
    """Return the condition of jobs with this id, or with all these words in their title or task."""
    if id := parse_id(text):
        return Q(pk=id)
    conditions = Q()
    for word in text.split():
        conditions &= Q(title__icontains=word) | Q(task_path__icontains=word)
    return conditions
