"""The view of the page ``/style/``."""

from django.conf import settings
from django.http import Http404
from django.shortcuts import render
from django.views.decorators.http import require_safe

from asyncsite.style import samples
from asyncsite.style.pages import render_pages
from asyncsite.style.tokens import read_tokens


@require_safe
def style(request):
    """Show the parts of the site and of the app in all their states. Outside development the page does not exist."""
    if not settings.DEBUG:
        raise Http404
    context = {
        "tokens": read_tokens(),
        "bells": samples.build_bells(),
        "toasts": samples.build_toasts(),
        "inbox_rows": samples.build_inbox_rows(),
        "inbox_group": samples.build_group(),
        "bell_rows": [{"notification": samples.build_group()}, *samples.build_inbox_rows()[:6]],
        **samples.build_preferences(),
        "notifications_position": {"unread": 4},
        "page": {
            "urls": {"selected": "#inbox", "unselected": "#inbox", "unfiltered": "#inbox"},
            "views": [
                ("inbox", "Inbox", "#inbox", "99+"),
                ("unread", "Unread", "#inbox", "4"),
                ("done", "Done", "#inbox", ""),
            ],
            "levels": [("info", "Info"), ("success", "Success"), ("warning", "Warning"), ("error", "Error")],
        },
        "inbox_query": {"view": "inbox", "is_filtered": False},
        "empty_queries": [
            {"view": "unread"},
            {"view": "done"},
            {"view": "inbox", "is_filtered": True},
            {"view": "inbox", "after": 1},
        ],
        "jobs": samples.build_jobs(),
        "app_pages": render_pages(request),
        "report_states": samples.build_report_states(),
        "report_rows": samples.build_report_rows(),
        **samples.build_report(),
        **samples.build_forms(),
    }
    return render(request, "asyncsite/style/page.html", context)
