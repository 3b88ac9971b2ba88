"""Which names say that a value is a secret."""

import pytest

from notifications.jobs.redaction import is_secret


@pytest.mark.parametrize("name", ["password", "api_key", "apiKey", "X-Auth-Token", "client_secret", "APIKEY"])
def test_names_of_secrets(name):
    assert is_secret(name)


@pytest.mark.parametrize("name", ["monkey", "author", "report_id", "spinner", "url"])
def test_names_of_no_secrets(name):
    assert not is_secret(name)
