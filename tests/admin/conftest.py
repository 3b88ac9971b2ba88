"""Staff users with chosen permissions."""

import pytest
from django.contrib.auth.models import Permission


@pytest.fixture
def sign_in_staff(client, make_user):
    """sign_in_staff(*codenames) signs a staff user with these permissions in to ``client`` and returns the user."""

    def sign_in(*codenames):
        user = make_user("staff", is_staff=True)
        user.user_permissions.set(Permission.objects.filter(codename__in=codenames))
        client.force_login(user)
        return user

    return sign_in
