"""Translated texts of the browser client, which has no message catalog of its own."""

from __future__ import annotations

from django.utils.translation import gettext, pgettext


def client_strings() -> dict[str, str]:
    """Return the texts in the active language by key. The client replaces ``{names}``."""
    return {
        "notifications": gettext("Notifications"),
        "bell_new": gettext("Notifications: {new} new, {count} unread"),
        "bell": gettext("Notifications: {count} unread"),
        "bell_none": gettext("Notifications: none unread"),
        "summary": gettext("{count} new notifications"),
        "new": gettext("{count} new"),
        "read_all": gettext("Mark all as read"),
        "see_all": gettext("All notifications"),
        "empty": gettext("There are no notifications."),
        "loading": gettext("Loading…"),
        "unreadable": gettext("The list could not be loaded. The server does not answer."),
        "unsaved": gettext("That was not saved. The server does not answer. Try again."),
        "again": gettext("Try again"),
        "offline": gettext("Not connected. Trying again…"),
        "signed_out": gettext("You are signed out. Sign in to see what is new."),
        "unread": gettext("Unread"),
        "dismiss": gettext("Dismiss"),
        "success": pgettext("level of a notification", "Success"),
        "warning": pgettext("level of a notification", "Warning"),
        "error": pgettext("level of a notification", "Error"),
        "now": gettext("just now"),
        "progress": gettext("Progress"),
        "queued": pgettext("state of a job", "Waiting to start"),
        "running": pgettext("state of a job", "Running"),
        "succeeded": pgettext("state of a job", "Done"),
        "cancelled": pgettext("state of a job", "Cancelled"),
        "failed": gettext("Failed: {reason}"),
        "of": gettext("{current} of {total}"),
        "attempt": gettext("attempt {attempt} of {most}"),
    }
