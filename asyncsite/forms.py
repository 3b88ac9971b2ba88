"""What a person or a program may ask for: a list of URLs, or one of them."""

from django import forms
from django.core.exceptions import ValidationError

from asyncsite.pasted import problem_with, problem_with_count, shown, split_lines, wrong_lines
from asyncsite.uploaded import Unusable, read_upload

TITLE_LENGTH = 200
LINES_SHOWN = 10
NOTHING = "Paste at least one URL, one a line, or choose a file."


class ReportForm(forms.Form):
    #: What HTTP calls the reason, once this is not valid.
    status = 422

    urls = forms.CharField(
        label="URLs",
        required=False,
        strip=False,  # the line numbers in the errors are those of the box
        help_text="One a line, up to 1,000. They are called in the background, up to 50 at a time.",
        widget=forms.Textarea(
            attrs={"rows": 10, "cols": 80, "spellcheck": "false", "autocapitalize": "off", "wrap": "off"}
        ),
    )
    file = forms.FileField(
        label="File (optional)",
        required=False,
        help_text="One URL a line, or CSV with them in the column “url”. UTF-8, up to 3 MB.",
        error_messages={"empty": "The file is empty."},
        widget=forms.FileInput(attrs={"accept": ".txt,.csv,.tsv,text/plain,text/csv"}),
    )
    title = forms.CharField(
        label="Title (optional)",
        required=False,
        max_length=TITLE_LENGTH,
        help_text="What the notification will call it.",
        error_messages={"max_length": "The title has %(show_value)s characters; at most 200 are possible."},
    )

    def clean(self):
        """Put together the URLs of the box and of the file, in this order."""
        typed = split_lines(self.cleaned_data.get("urls", ""))
        sent, size = self.read_file()
        if not self.errors.keys() & {"urls", "file"}:
            self.judge(typed, sent, len(typed) + size)
        if not self.errors.keys() & {"urls", "file"}:
            self.cleaned_data["urls"] = [url for _, url in (*typed, *sent)]

    def read_file(self):
        """The lines of the file and how many it has in all; what is wrong with it becomes the field's error."""
        file = self.cleaned_data.get("file")
        try:
            if len(self.files.getlist("file")) > 1:
                raise Unusable(422, "There are several files. Choose one.")
            return read_upload(file) if file else ([], 0)
        except Unusable as error:
            self.status = error.status
            self.add_error("file", str(error))
            return [], 0

    def judge(self, typed, sent, count):
        has_file = "file" in self.files
        if count == 0:
            self.add_error(*(("file", "The file holds no URL.") if has_file else ("urls", NOTHING)))
        elif problem := problem_with_count(count):
            self.add_error("file" if has_file else "urls", problem)
        else:
            for field, lines in (("urls", typed), ("file", sent)):
                if wrong := wrong_lines(lines):
                    self.add_error(field, [*map(str, wrong[:LINES_SHOWN]), *more(len(wrong) - LINES_SHOWN)])

    def ask_for_the_file_again(self):
        """For a form that comes back: browsers keep what was typed, but not the file."""
        file = self.files.get("file")
        if file and "file" not in self.errors:
            self.add_error(
                "file", f"Choose {shown(file.name)} again: a form that comes back has lost its file."
            )


class CheckForm(forms.Form):
    url = forms.CharField(
        label="URL",
        help_text="It is called at once. If the answer takes longer than 2 seconds, you are told when it is there.",
        error_messages={"required": "Type the URL to call."},
        widget=forms.TextInput(attrs={"inputmode": "url", "autocapitalize": "off", "spellcheck": "false"}),
    )

    def clean_url(self):
        url = self.cleaned_data["url"]
        if problem := problem_with(url):
            raise ValidationError(f"The URL {problem}")
        return url


def more(count):
    return [f"{count:,} more {'line is' if count == 1 else 'lines are'} not URLs."] if count > 0 else []
