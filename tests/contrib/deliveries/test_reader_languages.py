"""E-mails and push messages of lazy texts are in the language of their reader."""

import pytest
from django.contrib.auth import get_user_model
from django.utils import translation
from django.utils.dates import WEEKDAYS

from notifications.api import notify
from notifications.contrib.deliveries.models import Delivery


@pytest.mark.django_db(transaction=True)
def test_the_language_of_a_delivery(settings):
    settings.NOTIFICATIONS = {"USER_LANGUAGE": "last_name"}
    model = get_user_model()
    readers = model.objects.bulk_create(
        model(username=language, email=f"{language}@example.com", last_name=language)
        for language in ("de", "fr", "")
    )
    with translation.override("de"):
        ids = notify(readers, WEEKDAYS[0], deliver=[{"email": 600}])
    languages = dict(Delivery.objects.values_list("notification", "language"))
    assert [languages[id] for id in ids] == ["de", "fr", "de"]
