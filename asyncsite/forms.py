"""Forms for a list of URLs and for one URL."""

from django import forms
from django.core.exceptions import ValidationError
from django.utils.translation import gettext, ngettext
from django.utils.translation import gettext_lazy as _

from asyncsite.numbers import format_number
from asyncsite.url_file import UnusableFile, read_url_file
from asyncsite.url_list import (
    find_count_problem,
    find_url_problem,
    find_wrong_lines,
    quote_excerpt,
    split_lines,
)

MAX_TITLE_LENGTH = 200
MAX_LISTED_LINES = 10
NO_URLS = _("Enter at least one URL, one per line, or choose a file.")


class ReportForm(forms.Form):
    #: The HTTP status of the response if the form is not valid.
    status = 422

    urls = forms.CharField(
        label=_("URLs"),
        required=False,
        strip=False,  # The line numbers of the errors are those of the text box.
        help_text=_("One per line, up to 1,000."),
        widget=forms.Textarea(
            attrs={"rows": 5, "cols": 80, "spellcheck": "false", "autocapitalize": "off", "wrap": "off"}
        ),
    )
    file = forms.FileField(
        label=_("File (optional)"),
        required=False,
        help_text=_("One URL per line, or CSV with the URLs in the column “url”. UTF-8, up to 3 MB."),
        error_messages={"empty": _("The file is empty.")},
        widget=forms.FileInput(attrs={"accept": ".txt,.csv,.tsv,text/plain,text/csv"}),
    )
    title = forms.CharField(
        label=_("Title (optional)"),
        required=False,
        max_length=MAX_TITLE_LENGTH,
        error_messages={"max_length": _("The title has %(show_value)s characters. The limit is 200.")},
    )

    def clean(self):
        """Join the URLs of the text box and of the file, in this order."""
        pasted = split_lines(self.cleaned_data.get("urls", ""))
        uploaded, uploaded_count = self.read_file()
        if not self.errors.keys() & {"urls", "file"}:
            self.validate_urls(pasted, uploaded, len(pasted) + uploaded_count)
        if not self.errors.keys() & {"urls", "file"}:
            self.cleaned_data["urls"] = [url for _, url in (*pasted, *uploaded)]

    def read_file(self):
        """Return the lines of the file and their number. An unusable file becomes an error of its field."""
        file = self.cleaned_data.get("file")
        try:
            if len(self.files.getlist("file")) > 1:
                raise UnusableFile(422, gettext("There are several files. Choose one."))
            return read_url_file(file) if file else ([], 0)
        except UnusableFile as error:
            self.status = error.status
            self.add_error("file", str(error))
            return [], 0

    def validate_urls(self, pasted, uploaded, count):
        has_file = "file" in self.files
        if count == 0:
            self.add_error(
                *(("file", gettext("The file contains no URL.")) if has_file else ("urls", NO_URLS))
            )
        elif problem := find_count_problem(count):
            self.add_error("file" if has_file else "urls", problem)
        else:
            for field, lines in (("urls", pasted), ("file", uploaded)):
                if wrong := find_wrong_lines(lines):
                    more = describe_more(len(wrong) - MAX_LISTED_LINES)
                    self.add_error(field, [*map(str, wrong[:MAX_LISTED_LINES]), *more])

    def require_file_again(self):
        """Add an error to the file of a form that is rendered again: browsers keep the text, but not the file."""
        file = self.files.get("file")
        if file and "file" not in self.errors:
            text = gettext("Choose {name} again: the browser did not keep the file.")
            self.add_error("file", text.format(name=quote_excerpt(file.name)))


class CheckForm(forms.Form):
    url = forms.CharField(
        label=_("URL"),
        help_text=_(
            "Called right away. If it takes over 2 seconds, it continues in the background and we'll notify you."
        ),
        error_messages={"required": _("Enter the URL to call.")},
        widget=forms.TextInput(attrs={"inputmode": "url", "autocapitalize": "off", "spellcheck": "false"}),
    )

    def clean_url(self):
        url = self.cleaned_data["url"]
        if problem := find_url_problem(url):
            raise ValidationError(gettext("The URL {problem}").format(problem=problem))
        return url


def describe_more(count):
    if count <= 0:
        return []
    text = ngettext("{count} more line is not a URL.", "{count} more lines are not URLs.", count)
    return [text.format(count=format_number(count))]
