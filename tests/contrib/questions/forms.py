"""Forms by which questions are answered."""

from django import forms
from django.contrib.auth import get_user_model


class Approval(forms.Form):
    amount = forms.DecimalField(max_value=1_000, decimal_places=2, help_text="In euros.")
    due = forms.DateField(required=False, widget=forms.DateInput(attrs={"type": "date"}))
    approved = forms.BooleanField(required=False)
    reason = forms.CharField(max_length=2_000, required=False, widget=forms.Textarea(attrs={"rows": 3}))

    def clean(self):
        if not self.cleaned_data.get("approved") and not self.cleaned_data.get("reason"):
            self.add_error("reason", "Say why you do not approve.")


class Person(forms.Form):
    person = forms.ModelChoiceField(get_user_model()._default_manager.all())
    others = forms.ModelMultipleChoiceField(get_user_model()._default_manager.all())


class Delivery(forms.Form):
    amount = forms.DecimalField(localize=True)
    at = forms.DateTimeField(widget=forms.DateTimeInput({"type": "datetime-local"}, "%Y-%m-%dT%H:%M"))
    window = forms.SplitDateTimeField(required=False)
    note = forms.CharField(initial="Ring twice.", required=False)


class Upload(forms.Form):
    file = forms.FileField()


def fail():
    raise KeyError("The table is gone.")


class FailingChoices(forms.Form):
    kind = forms.ChoiceField(choices=fail)


class Failing(forms.Form):
    text = forms.CharField()

    def clean(self):
        raise KeyError("A defect of the project.")
