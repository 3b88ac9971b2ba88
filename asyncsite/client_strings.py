"""Translated texts of paste.js, which has no message catalog of its own."""

from django.utils.translation import gettext, ngettext


def client_strings():
    """Return the texts in the active language by key. The script replaces ``{names}``, and chooses one or many."""
    return {
        "urls_one": ngettext("{count} URL.", "{count} URLs.", 1),
        "urls_many": ngettext("{count} URL.", "{count} URLs.", 2),
        "too_many": gettext("A report takes at most {limit}."),
        "wrong_line": gettext("Line {line} is not a URL."),
        "wrong_lines": gettext("Lines {lines} are not URLs."),
        "wrong_lines_more": gettext("Lines {lines} and {count} more are not URLs."),
        "file_too_large": gettext("This file is {size} MB. The limit is 3 MB."),
    }
