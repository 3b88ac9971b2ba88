"""Filters and tags that format values on the site's pages."""

from django import template
from django.utils.html import format_html

from asyncsite import first_page
from asyncsite.models import Call

register = template.Library()
#: Characters of a URL in a table.
MAX_SHOWN_LENGTH = 64


@register.filter
def truncate_middle(text, length):
    """Shorten a text to ``length`` characters by replacing its middle with an ellipsis."""
    if len(text) <= length:
        return text
    tail = (length - 1) // 3
    return f"{text[: length - 1 - tail]}…{text[-tail:]}"


@register.filter
def media_type(content_type):
    """Return a content type without its parameters."""
    return content_type.partition(";")[0].strip()


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


@register.filter
def outcome_label(outcome):
    """Return the word for an outcome in the language of the page."""
    return Call.Outcome(outcome).label


@register.simple_tag(takes_context=True)
def files_of_first_page(context):
    """Return the files that the first page of a browser contains, None for another page."""
    if not first_page.is_first(context.get("request")):
        return None
    is_user = getattr(context.get("user"), "is_authenticated", False)
    return {
        "script": first_page.read(first_page.SCRIPT),
        "styles": [
            first_page.read(first_page.STYLE),
            *([first_page.read(first_page.APP_STYLE)] if is_user else []),
        ],
        "version": first_page.version(),
    }
