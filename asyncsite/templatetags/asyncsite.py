"""Filters that format values on the site's pages."""

from datetime import UTC

from django import template
from django.utils import timezone
from django.utils.formats import date_format
from django.utils.html import format_html

register = template.Library()


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


@register.filter
def time_ago(moment):
    """Return a <time> element: relative up to a day, then a date. Its title has the exact time."""
    local = timezone.localtime(moment)
    return format_html(
        '<time datetime="{}" title="{}">{}</time>',
        f"{moment.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}",
        f"{date_format(local, 'j M Y, H:i:s')} {local:%Z}",
        format_relative(moment),
    )


def format_relative(moment):
    seconds = max((timezone.now() - moment).total_seconds(), 0)
    if seconds < 60:
        return "just now"
    if seconds < 3600:
        return f"{seconds // 60:.0f} min ago"
    if seconds < 86400:
        return f"{seconds // 3600:.0f} h ago"
    return date_format(timezone.localtime(moment), "j M Y")


@register.filter
def with_count(count, noun):
    """Return a text like "1 URL" or "1,204 URLs"."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"
