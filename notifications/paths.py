"""URL paths of the app, for code without a request, as in a worker, and the token of a page's user in them."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs
from uuid import UUID

from django.conf import settings
from django.urls import NoReverseMatch, get_script_prefix, reverse, set_script_prefix
from django.utils import translation
from django.utils.crypto import salted_hmac

from notifications import conf

if TYPE_CHECKING:
    from django.db.models import Model

#: The path of the WebSocket below the root of the site.
WEBSOCKET_PATH = "ws/notifications/"
#: The parameter of URLs in pages that binds them to the user of the page.
PAGE_USER_PARAMETER = "viewer"

_PLACEHOLDER_ID = str(UUID(int=0))


def inbox_page() -> str:
    """Return the path of the inbox in ``LANGUAGE_CODE``, ``""`` if the project does not include the app's URLs."""
    urlconf = getattr(settings, "ROOT_URLCONF", "")
    return _path(urlconf, settings.FORCE_SCRIPT_NAME, settings.LANGUAGE_CODE, "notifications:inbox")


def localize_link(url: str) -> str:
    """Return a link of a notification for a page in the current language.

    Stored links to the inbox and to pages of jobs are in ``LANGUAGE_CODE``. Other links are returned unchanged.
    """
    stored = inbox_page()
    if not stored or (url != stored and not url.startswith(f"{stored}jobs/")):
        return url
    try:
        return reverse("notifications:inbox") + url.removeprefix(stored)
    except NoReverseMatch:
        return url


def absolute(url: str) -> str:
    """Return a link of the site as one that works in a message. The address of a request is never used."""
    return conf.settings.SITE_URL.rstrip("/") + url if url.startswith("/") else url


def admin_list(model: type[Model]) -> str:
    """Return the path of the list of a model in the admin, ``""`` if the project does not include the admin."""
    name = f"admin:{model._meta.app_label}_{model._meta.model_name}_changelist"
    urlconf = getattr(settings, "ROOT_URLCONF", "")
    return _path(urlconf, settings.FORCE_SCRIPT_NAME, settings.LANGUAGE_CODE, name)


def job_path(id: UUID, name: str = "job") -> str:
    """Return the path of a job's page, or of the app's URL ``name`` for a job.

    ``""`` if the project does not include the app's URLs. It begins with ``FORCE_SCRIPT_NAME`` and is in
    ``LANGUAGE_CODE``, whatever the script name and language of the current request are.
    """
    urlconf = getattr(settings, "ROOT_URLCONF", "")
    name = f"notifications:{name}"
    path = _path(urlconf, settings.FORCE_SCRIPT_NAME, settings.LANGUAGE_CODE, name, _PLACEHOLDER_ID)
    return path.replace(_PLACEHOLDER_ID, str(id))


def page_token(user: Any, *, secret: str | bytes | None = None) -> str:
    """Return a token of the user (key) for whom a page is rendered, which does not disclose the key.

    A page may stay open while another user signs in in the same browser, whose cookies it then sends. The template tag
    adds the token to its URLs, and requests of any other user are refused: a page never shows the notifications of
    another user, and never marks them as read.
    """
    return salted_hmac("notifications.browser", str(user), secret=secret, algorithm="sha256").hexdigest()[:16]


def bind_to_user(path: str, user: Any) -> str:
    """Return a path without a query, in a page for a user (key), as one that refuses requests of all others."""
    return f"{path}?{PAGE_USER_PARAMETER}={page_token(user)}"


def is_page_of(query: str, user: Any) -> bool:
    """Return whether a URL with this query string is for this user key. One without a token is for every user."""
    if f"{PAGE_USER_PARAMETER}=" not in query:
        return True
    secrets = [settings.SECRET_KEY, *settings.SECRET_KEY_FALLBACKS]
    token = parse_qs(query).get(PAGE_USER_PARAMETER, [""])[0]
    return token in (page_token(user, secret=secret) for secret in secrets)


@lru_cache(maxsize=64)
def _path(urlconf: str, script_name: str | None, language: str, name: str, *args: str) -> str:
    if not urlconf:
        return ""
    prefix = get_script_prefix()
    set_script_prefix(script_name or "/")
    try:
        with translation.override(language):
            path: str = reverse(name, urlconf=urlconf, args=args)
            return path
    except NoReverseMatch:
        return ""
    finally:
        set_script_prefix(prefix)
