"""How values are written on the site's pages."""

from datetime import UTC

from django import template
from django.utils import timezone
from django.utils.formats import date_format
from django.utils.html import format_html

register = template.Library()


@register.filter
def middle_cut(text, length):
    """The text, at most ``length`` characters of it, with … where its middle was."""
    if len(text) <= length:
        return text
    tail = (length - 1) // 3
    return f"{text[: length - 1 - tail]}…{text[-tail:]}"


@register.filter
def media_type(content_type):
    """The type without its parameters."""
    return content_type.partition(";")[0].strip()


@register.filter
def when(moment):
    """A <time>: relative up to a day ago, the date before that; exact on hover and for programs."""
    exact = f"{date_format(timezone.localtime(moment), 'j M Y, H:i:s')} {timezone.localtime(moment):%Z}"
    return format_html(
        '<time datetime="{}" title="{}">{}</time>',
        f"{moment.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}",
        exact,
        relative(moment),
    )


def relative(moment):
    seconds = max((timezone.now() - moment).total_seconds(), 0)
    if seconds < 60:
        return "just now"
    if seconds < 3600:
        return f"{seconds // 60:.0f} min ago"
    if seconds < 86400:
        return f"{seconds // 3600:.0f} h ago"
    return date_format(timezone.localtime(moment), "j M Y")


@register.filter
def plural(count, word):
    """Like "1 URL" and "1,204 URLs"."""
    return f"{count:,} {word}{'' if count == 1 else 's'}"
