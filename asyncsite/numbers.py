"""Numbers in the language of the page."""

from django.utils.formats import number_format


def format_number(number):
    """Return a number with the separators of the active language: "1,204" in English, "1.204" in German."""
    return number_format(number, use_l10n=True, force_grouping=True)
