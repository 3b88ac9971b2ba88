"""Filters and tags that format values on the site's pages."""

from http.client import responses
from itertools import accumulate

from django import template
from django.utils.html import format_html, format_html_join

from asyncsite import first_page
from asyncsite.models import Call, Report
from asyncsite.summary import truncate_middle

register = template.Library()
#: Characters of a URL in a table.
MAX_SHOWN_LENGTH = 64


@register.filter
def media_type(content_type):
    """Return a content type without its parameters."""
    return content_type.partition(";")[0].strip()


@register.filter
def reason_phrase(status):
    """Return the reason phrase of an HTTP status, such as "Not Found"; an empty text if it has none."""
    return responses.get(status, "")


@register.simple_tag
def call_url(url):
    """Return the link of a URL. A long one is shortened, and complete in its title, on focus and for screen readers."""
    if len(url) <= MAX_SHOWN_LENGTH:
        return format_html('<a class="url" href="{0}" rel="noopener noreferrer">{0}</a>', url)
    return format_html(
        '<a class="url" href="{0}" title="{0}" rel="noopener noreferrer"><span class="whole">{0}</span>'
        '<span class="cut" aria-hidden="true">{1}</span></a>',
        url,
        truncate_middle(url, MAX_SHOWN_LENGTH),
    )


@register.simple_tag
def tints(ok, failed, refused, size):
    """Return a bar of the share of calls that passed, failed, were refused, and are not called yet."""
    ends = [round(100 * count / max(size, 1), 2) for count in accumulate((ok, failed, refused))]
    # Each part covers the one before it.
    parts = zip(("refused", "failed", "ok"), reversed(ends), strict=True)
    return format_html(
        '<svg class="tints" width="100%" height="8" aria-hidden="true">{}</svg>',
        format_html_join("", '<rect class="{}" width="{}%" height="8"/>', parts),
    )


@register.simple_tag
def report_tints(notification):
    """Return the bar of the report that a notification is about, nothing if it is about none, or a public one."""
    if not notification.user_id or not notification.job:
        return ""
    report = Report.objects.filter(owner=notification.user_id, job_id=notification.job).first()
    if report is None:
        return ""
    outcomes = list(report.calls.order_by().values_list("outcome", flat=True))
    return tints(*(outcomes.count(outcome) for outcome in ("ok", "failed", "refused")), report.size)


@register.filter
def outcome_label(outcome):
    """Return the word for an outcome in the language of the page."""
    return Call.Outcome(outcome).label


@register.simple_tag(takes_context=True)
def files_of_first_page(context):
    """Return the files that the first page of a browser contains, None for another page."""
    request = context.get("request")
    if not first_page.is_first(request):
        return None
    styles = [first_page.STYLE]
    if getattr(context.get("user"), "is_authenticated", False):
        styles.append(first_page.APP_STYLE)
        if request.resolver_match and request.resolver_match.app_name == "notifications":
            styles.append(first_page.PAGES_STYLE)
    return {
        "script": first_page.read(first_page.SCRIPT),
        "styles": [first_page.read(name) for name in styles],
        "version": first_page.version(),
    }
