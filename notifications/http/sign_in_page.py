"""The page on which a user signs in again, for the link of the browser client."""

from __future__ import annotations

from typing import Any, NamedTuple

from django.conf import settings
from django.contrib.auth import REDIRECT_FIELD_NAME
from django.shortcuts import resolve_url
from django.urls import NoReverseMatch, Resolver404, get_script_prefix, resolve, reverse


class SignInPage(NamedTuple):
    """``next_parameter`` is the query parameter for the page to return to, ``""`` if there is none to add."""

    url: str
    next_parameter: str


def find(request: Any) -> SignInPage:
    """Return the admin's sign-in for pages of the admin, otherwise ``LOGIN_URL``.

    A project may have no page at ``LOGIN_URL``. The link is then the page itself, which redirects to its own sign-in.
    """
    match = getattr(request, "resolver_match", None)
    try:
        if match is not None and match.app_name == "admin":
            return SignInPage(reverse("admin:login", current_app=match.namespace), REDIRECT_FIELD_NAME)
        url = resolve_url(settings.LOGIN_URL)
        if url.startswith(get_script_prefix()):
            resolve("/" + url.partition("?")[0].removeprefix(get_script_prefix()))
    except (NoReverseMatch, Resolver404):
        return SignInPage("", "")
    return SignInPage(url, REDIRECT_FIELD_NAME)
