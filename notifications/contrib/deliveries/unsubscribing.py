"""Signed links by which a recipient switches e-mails off without signing in (RFC 8058), and the page they lead to."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from django.contrib.auth import get_user_model
from django.core import signing
from django.core.exceptions import ValidationError
from django.db import router
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_http_methods

from notifications.contrib.deliveries.categories import find_category, merge
from notifications.contrib.deliveries.preferences import restore, switch_off
from notifications.http import signed_view
from notifications.models import Notification


class _ShortJSON:
    """JSON as UTF-8: escaped, a category of 100 characters would make a header longer than the 998 of RFC 5322."""

    def dumps(self, value: Any) -> bytes:
        return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()

    def loads(self, data: bytes) -> Any:
        return json.loads(data)


SALT = "notifications.unsubscribe"
MAX_TOKEN_LENGTH = 1000
#: The name of the channel.
CHANNEL = "email"

#: What an e-mail is unsubscribed from: a category, several, or None, all digests.
Scope = str | Sequence[str] | None


def make_token(user: Any, scope: Scope) -> str:
    """Return what an e-mail to a user (key) is unsubscribed with.

    It does not expire, because e-mails are kept. It is signed with ``SECRET_KEY``, and can do nothing else.
    """
    key = user if isinstance(user, int) else str(user)
    return signing.dumps([key, scope], salt=SALT, serializer=_ShortJSON)


def read_token(token: str) -> tuple[Any, Scope]:
    """Return the user (key) and the scope of a token. Raises ``ValueError`` if it is not one of ``make_token``."""
    if len(token) > MAX_TOKEN_LENGTH:
        raise ValueError("The token is too long.")
    field: Any = Notification._meta.get_field("user")
    try:
        key, scope = signing.loads(token, salt=SALT, serializer=_ShortJSON)
        return field.target_field.to_python(key), scope
    except (signing.BadSignature, ValidationError) as exc:
        raise ValueError("The token is not valid.") from exc


def unsubscribe(user: Any, scope: Scope) -> None:
    """Send a user (key) no more e-mails of this scope."""
    switch_off(user, categories_of(scope), CHANNEL)


def resubscribe(user: Any, scope: Scope) -> None:
    """Undo ``unsubscribe()`` of categories."""
    for category in categories_of(scope) or ():
        restore(user, category, CHANNEL)


def categories_of(scope: Scope) -> Sequence[str] | None:
    """Return the categories of a scope, None for all digests."""
    return [scope] if isinstance(scope, str) else scope


@signed_view
@require_http_methods(["GET", "HEAD", "POST"])
def unsubscribe_page(request: HttpRequest, token: str) -> HttpResponse:
    """Show the form that ends e-mails of a category, or end them. Programs of e-mail post to it (RFC 8058)."""
    context: dict[str, Any] = {"is_valid": False, "action": request.POST.get("action", "")}
    try:
        user, scope = read_token(token)
    except ValueError:
        return render(request, "notifications/unsubscribe.html", context, status=404)
    model: Any = get_user_model()
    if not QuerySet(model, using=router.db_for_write(model)).filter(pk=user).exists():
        return render(request, "notifications/unsubscribe.html", context, status=404)
    if request.method == "POST":
        if context["action"] == "undo":
            resubscribe(user, scope)
        else:
            unsubscribe(user, scope)
    category = _read_category(scope)
    context |= {
        "is_valid": True,
        "is_digest": category is None,
        "is_required": category is not None and category.is_required,
        "is_done": request.method == "POST" and context["action"] != "undo",
        "is_undone": request.method == "POST" and context["action"] == "undo",
        "category": category,
    }
    return render(request, "notifications/unsubscribe.html", context)


def _read_category(scope: Scope) -> Any:
    """Return the category of a scope, of several one with all of their names, None for all digests."""
    if scope is None:
        return None
    return find_category(scope) if isinstance(scope, str) else merge(scope)
