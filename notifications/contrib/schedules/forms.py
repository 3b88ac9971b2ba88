"""The form in which a user chooses what is done periodically, and when."""

from __future__ import annotations

from datetime import time
from typing import Any

from django import forms
from django.utils.translation import gettext_lazy as _

from notifications.contrib.schedules.offers import find_offers
from notifications.contrib.schedules.texts import DAILY, list_days


class OfferForm(forms.Form):
    """One of the offers, the days and the time."""

    offer = forms.ChoiceField(label=_("What"))
    days = forms.ChoiceField(label=_("When"))
    at = forms.TimeField(
        label=_("At"),
        initial=time(8),
        widget=forms.TimeInput(attrs={"type": "time"}, format="%H:%M"),
        input_formats=["%H:%M", "%H:%M:%S"],
    )

    def __init__(self, data: Any = None) -> None:
        super().__init__(data, auto_id="id_%s", label_suffix="", initial={"days": DAILY})
        fields: dict[str, Any] = self.fields
        fields["offer"].choices = [(name, offer["title"]) for name, offer in find_offers().items()]
        fields["days"].choices = list_days()

    @property
    def cron(self) -> str:
        """The expression of the days and the time."""
        at: time = self.cleaned_data["at"]
        return f"{at.minute} {at.hour} {self.cleaned_data['days']}"
