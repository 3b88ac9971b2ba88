"""What a person or a program may ask for: a list of URLs, or one of them."""

from django import forms
from django.core.exceptions import ValidationError

from asyncsite.pasted import problem_with, problem_with_count, split_lines, wrong_lines

TITLE_LENGTH = 200
LINES_SHOWN = 10


class ReportForm(forms.Form):
    urls = forms.CharField(
        label="URLs",
        strip=False,  # the line numbers in the errors are those of the box
        help_text="One a line, up to 1,000. They are called in the background, up to 50 at a time.",
        error_messages={"required": "Paste at least one URL, one a line."},
        widget=forms.Textarea(
            attrs={"rows": 10, "cols": 80, "spellcheck": "false", "autocapitalize": "off", "wrap": "off"}
        ),
    )
    title = forms.CharField(
        label="Title (optional)",
        required=False,
        max_length=TITLE_LENGTH,
        help_text="What the notification will call it.",
        error_messages={"max_length": "The title has %(show_value)s characters; at most 200 are possible."},
    )

    def clean_urls(self):
        lines = split_lines(self.cleaned_data["urls"])
        if problem := problem_with_count(len(lines)):
            raise ValidationError(problem)
        if wrong := wrong_lines(lines):
            raise ValidationError([*map(str, wrong[:LINES_SHOWN]), *more(len(wrong) - LINES_SHOWN)])
        return [url for _, url in lines]


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
