"""What the tasks of this app that call servers of others share: their queue, and who users are to them."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, NamedTuple

from django.contrib.auth import get_user_model
from django.core.exceptions import ValidationError
from django.core.validators import validate_email
from django.db import router
from django.db.models import QuerySet

from notifications.compat import task_backends
from notifications.jobs.batches import first_queue_name
from notifications.jobs.claiming.executors import has_engine

QUEUE = "deliveries"
#: Webhooks and push messages of one user that are sent at once, over all workers.
MAX_PER_USER = 8


def queue_name(alias: str = "default") -> str:
    """Return ``deliveries``, or another queue where the backend in ``TASKS`` or its engine does not serve this one."""
    queues = task_backends[alias].queues
    is_served = QUEUE in queues if queues else not has_engine(alias)
    return QUEUE if is_served else first_queue_name(alias)


class Recipient(NamedTuple):
    """A user, and what a decision needs of it. ``address`` is empty if there is none or it is not valid."""

    user: Any
    is_active: bool
    address: str


def read_recipient(user: Any) -> Recipient | None:
    """Return the recipient for the key of a user, None if it does not exist.

    Outside of a transaction: the model is the project's, and may be in another database.
    """
    model: Any = get_user_model()
    # Not by a manager of the project, which may hide users, and not from a replica, which may not have a new one.
    found = QuerySet(model, using=router.db_for_write(model)).filter(pk=user).first()
    if found is None:
        return None
    return Recipient(found, bool(getattr(found, "is_active", True)), address_of(found))


def read_recipients(users: Collection[Any]) -> dict[Any, Recipient | None]:
    """Return the recipients, without their users, for keys of users; nothing if the model has no column for it.

    One query, in which no instance is made: their addresses and whether they are active may be properties.
    """
    model: Any = get_user_model()
    columns = {field.name for field in model._meta.concrete_fields}
    names = [getattr(model, "EMAIL_FIELD", "email"), "is_active"]
    if not columns.issuperset(names):
        return {}
    rows = QuerySet(model, using=router.db_for_write(model)).filter(pk__in=users)
    found = {
        key: Recipient(None, bool(is_active), _valid_address(address))
        for key, address, is_active in rows.values_list("pk", *names)
    }
    return {user: found.get(user) for user in users}


def address_of(user: Any) -> str:
    """Return the e-mail address of a user, empty if there is none or it is not valid."""
    return _valid_address(getattr(user, getattr(user, "EMAIL_FIELD", "email"), None))


def _valid_address(address: Any) -> str:
    try:
        validate_email(address)
    except (ValidationError, TypeError):
        return ""
    return str(address)
