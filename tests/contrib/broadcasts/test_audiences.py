"""Audiences: which users each kind has, in the order of their keys, in parts."""

import pytest
from django.contrib.auth.models import Group, Permission

from notifications.contrib.broadcasts.audiences import Audience, available_kinds

pytestmark = [pytest.mark.django_db, pytest.mark.database_law]


@pytest.fixture
def people(make_user):
    """Users by name: staff, a superuser, members of two groups, holders of a permission, and one who is inactive."""
    names = ("ada", "bob", "cyd", "dan", "eve")
    users = {name: make_user(name, is_staff=name in ("ada", "eve")) for name in names}
    users["root"] = make_user("root", is_superuser=True)
    users["gone"] = make_user("gone", is_staff=True, is_active=False)
    editors, authors = (Group.objects.create(name=name) for name in ("editors", "authors"))
    users["bob"].groups.set([editors, authors])
    users["cyd"].groups.add(authors)
    users["gone"].groups.add(authors)
    permission = Permission.objects.get(codename="view_job")
    users["dan"].user_permissions.add(permission)
    users["gone"].user_permissions.add(permission)
    editors.permissions.add(permission)
    return users


def group_keys(*names):
    return tuple(str(key) for key in Group.objects.filter(name__in=names).values_list("pk", flat=True))


AUDIENCES = {
    "users": (
        "users",
        lambda users: tuple(str(users[name].pk) for name in ("eve", "gone", "ada")),
        "ada eve",
    ),
    "groups": ("groups", lambda users: group_keys("editors", "authors"), "bob cyd"),
    "permission": ("permission", lambda users: ("notifications.view_job",), "bob dan root"),
    "staff": ("staff", lambda users: (), "ada eve"),
    "everybody": ("everybody", lambda users: (), "ada bob cyd dan eve root"),
}


@pytest.mark.parametrize("name", AUDIENCES)
@pytest.mark.parametrize("limit", [1, 2, 100])
def test_active_users_of_each_kind(people, name, limit):
    """Each once, also one who is in two groups, however large the parts are that are read."""
    kind, values, expected = AUDIENCES[name]
    audience = Audience(kind=kind, values=values(people))
    keys, position = [], ""
    while part := audience.read_keys(position, limit):
        assert len(part) <= limit
        keys += part
        position = str(part[-1])
    assert keys == sorted(people[name].pk for name in expected.split())
    assert audience.count(limit=100) == len(keys)


def test_descriptions_name_what_was_chosen(people):
    users = Audience(kind="users", values=tuple(str(people[name].pk) for name in ("bob", "ada")))
    assert users.describe() == "Users: ada, bob"
    assert Audience(kind="groups", values=group_keys("editors")).describe() == "Members of groups: editors"
    permission = Audience(kind="permission", values=("notifications.view_job",))
    assert permission.describe() == "Holders of a permission: notifications.view_job"
    assert Audience(kind="staff").describe() == "All staff"


def test_long_lists_of_names_are_shortened(make_user):
    keys = tuple(str(make_user(f"user{number:02}").pk) for number in range(12))
    assert Audience(kind="users", values=keys).describe().endswith("user09, 2 more")


def test_all_kinds_are_available_with_djangos_user_model(db):
    assert available_kinds() == ["users", "groups", "permission", "staff", "everybody"]


def test_backends_that_find_holders_in_the_same_way_are_asked_once(people, settings):
    """Several that differ are combined."""
    settings.AUTHENTICATION_BACKENDS = [
        "django.contrib.auth.backends.ModelBackend",
        "django.contrib.auth.backends.AllowAllUsersModelBackend",
        "tests.contrib.broadcasts.test_audiences.EveBackend",
    ]
    audience = Audience(kind="permission", values=("notifications.view_job",))
    assert sorted(audience.read_keys("", 10)) == sorted(
        people[name].pk for name in ("bob", "dan", "eve", "root")
    )


class EveBackend:
    """An authentication backend of which only eve has permissions."""

    def with_perm(self, perm, is_active=True, include_superusers=True, obj=None):
        from django.contrib.auth import get_user_model

        return get_user_model().objects.filter(username="eve")
