"""The option ``tags`` of ``.using()``."""

from __future__ import annotations

from collections.abc import Iterable

from notifications import validators

MAX_TAGS, MAX_TAG_LENGTH = 10, 100


def validate_tags(tags: Iterable[str]) -> tuple[str, ...]:
    """Return the tags of a job, each once, in their order. Raises TypeError or ValueError."""
    if isinstance(tags, str):
        raise TypeError(f'tags must be a list of strings, not a string. Write tags=["{tags[:100]}"].')
    found = tuple(dict.fromkeys(validators.text("A tag", tag, MAX_TAG_LENGTH, required=True) for tag in tags))
    if len(found) > MAX_TAGS:
        raise ValueError(f"A job takes at most {MAX_TAGS} tags, not {len(found)}.")
    return found
