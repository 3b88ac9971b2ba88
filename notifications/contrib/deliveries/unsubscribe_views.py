"""The page that an e-mail's link for unsubscribing leads to. It works signed out, and changes nothing by GET."""

from __future__ import annotations

from functools import wraps
from typing import Any

from django.contrib.auth import get_user_model
from django.db import router
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils.translation import gettext
from django.views.decorators.cache import never_cache
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_http_methods

from notifications.contrib.deliveries import unsubscribing
from notifications.db.unavailable import is_unavailable
from notifications.http.access import View, database_unavailable_page, exempt_from_project, leave_out_of_log
from notifications.inbox.categories import Category, load_categories
from notifications.problems import log_database_error


def signed_page(view: View) -> View:
    """Make a view a page for everybody, whose link is signed. What posts to it has no cookie and no CSRF token."""

    @csrf_exempt
    @never_cache
    @wraps(view)
    def wrapped(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        try:
            response = view(request, *args, **kwargs)
        except Exception as exc:
            if not is_unavailable(exc):
                raise
            log_database_error(exc)
            return database_unavailable_page()
        response["Referrer-Policy"] = "no-referrer"  # the address is the permission
        response["X-Robots-Tag"] = "noindex"
        return response

    return exempt_from_project(leave_out_of_log(wrapped))


@signed_page
@require_http_methods(["GET", "HEAD", "POST"])
def unsubscribe(request: HttpRequest, token: str) -> HttpResponse:
    """Show the form that ends e-mails of a category, or end them. Programs of e-mail post to it (RFC 8058)."""
    context: dict[str, Any] = {"is_valid": False, "action": request.POST.get("action", "")}
    try:
        user, scope = unsubscribing.read_token(token)
    except ValueError:
        return render(request, "notifications/unsubscribe.html", context, status=404)
    model: Any = get_user_model()
    if not QuerySet(model, using=router.db_for_write(model)).filter(pk=user).exists():
        return render(request, "notifications/unsubscribe.html", context, status=404)
    if request.method == "POST":
        if context["action"] == "undo":
            unsubscribing.resubscribe(user, scope)
        else:
            unsubscribing.unsubscribe(user, scope)
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


def _read_category(scope: unsubscribing.Scope) -> Category | None:
    """Return the category of a scope, of several one with all of their names, None for all digests."""
    if scope is None or isinstance(scope, str):
        return None if scope is None else load_categories().get(scope)
    names = [str(load_categories().get(key).name or gettext("Others")) for key in scope]
    return Category(", ".join(scope), ", ".join(names))
