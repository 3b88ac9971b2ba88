"""Paths of the app, the same from every thread and process: a worker has no request to take them from."""

from __future__ import annotations

from functools import lru_cache
from uuid import UUID

from django.conf import settings
from django.urls import NoReverseMatch, get_script_prefix, reverse, set_script_prefix
from django.utils import translation

_ANY = UUID(int=0)


def job_page(id: UUID) -> str:
    """Return the path of the page of a job, ``""`` where the app's URLs are not mounted."""
    return job_path("job", id) or ""


def job_path(name: str, id: UUID) -> str | None:
    """Return the path of a URL of the app that names a job; None where the project does not have it.

    It begins with ``FORCE_SCRIPT_NAME`` and is in the project's own language, not below the script name, nor in the
    language, of some request.
    """
    urlconf = getattr(settings, "ROOT_URLCONF", "")
    if not urlconf:
        return None
    before, found, after = _parts(urlconf, settings.FORCE_SCRIPT_NAME, settings.LANGUAGE_CODE, name)
    return f"{before}{id}{after}" if found else None


@lru_cache(maxsize=64)
def _parts(urlconf: str, script_name: str | None, language: str, name: str) -> tuple[str, str, str]:
    prefix = get_script_prefix()
    set_script_prefix(script_name or "/")
    try:
        with translation.override(language):
            return reverse(f"notifications:{name}", urlconf=urlconf, args=[_ANY]).partition(str(_ANY))
    except NoReverseMatch:
        return "", "", ""
    finally:
        set_script_prefix(prefix)
