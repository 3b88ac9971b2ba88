"""What each page gives the bell and the browser client: translated texts, and the page to sign in."""

from __future__ import annotations

from typing import Any, NamedTuple

from django.conf import settings
from django.contrib.auth import REDIRECT_FIELD_NAME
from django.shortcuts import resolve_url
from django.urls import NoReverseMatch, Resolver404, get_script_prefix, resolve, reverse
from django.utils.translation import gettext, pgettext

from notifications.states import RETRY_AT, JobState


class SignInPage(NamedTuple):
    """``next_parameter`` is the query parameter for the page to return to, ``""`` if there is none to add."""

    url: str
    next_parameter: str


def find_sign_in_page(request: Any) -> SignInPage:
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


def client_strings() -> dict[str, str]:
    """Return the texts in the active language by key. The client replaces ``{names}``."""
    return {
        "notifications": gettext("Notifications"),
        "bell_new": gettext("Notifications: {new} new, {count} unread"),
        "bell": gettext("Notifications: {count} unread"),
        "bell_none": gettext("Notifications: none unread"),
        "bell_questions": gettext("{count} waiting for your answer"),
        "rest": gettext("{count} more"),
        "rest_error": gettext("{count} more, {errors} error"),
        "rest_errors": gettext("{count} more, {errors} errors"),
        "new": gettext("{count} new"),
        "inbox": gettext("Inbox"),
        "questions": gettext("Questions"),
        "waiting_for_you": gettext("Waiting for you"),
        "latest": gettext("Latest"),
        "all_questions": gettext("All {count} questions"),
        "none_asked": gettext("No question is open."),
        "read": gettext("Mark as read"),
        "archive": gettext("Move to Done"),
        "done": gettext("Done"),
        "none_unread": gettext("Nothing is unread."),
        "read_all": gettext("Mark all as read"),
        "see_all": gettext("All notifications"),
        "empty": gettext("When a job of yours finishes or asks you something, you'll see it here."),
        "loading": gettext("Loading…"),
        "unreadable": gettext("The list could not be loaded. Can't reach the server."),
        "did_read": gettext("{count} marked as read."),
        "did_unread": gettext("{count} marked as unread."),
        "did_archive": gettext("{count} moved to Done."),
        "did_unarchive": gettext("{count} moved to the inbox."),
        "undo": gettext("Undo"),
        "undone": gettext("Undone."),
        "cancel": gettext("Cancel"),
        "unsaved": gettext("Not saved. Can't reach the server."),
        "unsent": gettext("Not sent. Can't reach the server. Try again."),
        "unknown": gettext("No response. See whether it was done."),
        "refused": gettext("Not done. The server answered {status}."),
        "again": gettext("Try again"),
        "offline": gettext("Can't reach the server. Reconnecting…"),
        "signed_out": gettext("You are signed out."),
        "sign_in": gettext("Sign in"),
        "unread": gettext("Unread"),
        "dismiss": gettext("Dismiss"),
        "more": gettext("More"),
        "toasts_key": gettext("Press F8 to move to it."),
        "success": pgettext("level of a notification", "Success"),
        "warning": pgettext("level of a notification", "Warning"),
        "error": pgettext("level of a notification", "Error"),
        "now": gettext("just now"),
        "minutes_ago": gettext("{count} min ago"),
        "hours_ago": gettext("{count} h ago"),
        "progress": gettext("Progress"),
        "of": gettext("{current} of {total}"),
        "pace": gettext("{rate}, {time}"),
        "per_second": gettext("{count} per second"),
        "per_minute": gettext("{count} per minute"),
        "seconds_left": gettext("about {count} s left"),
        "minutes_left": gettext("about {count} min left"),
        "hours_left": gettext("about {count} h left"),
        "seconds_running": gettext("Running for {count} s"),
        "minutes_running": gettext("Running for {count} min"),
        "hours_running": gettext("Running for {count} h"),
        "attempt": gettext("attempt {attempt} of {most}"),
        **{value: str(label) for value, label in JobState.choices},
        "retry_at": str(RETRY_AT),
    }
