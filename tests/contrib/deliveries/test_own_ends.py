"""No mail is sent about what its reader has just done."""

import uuid

import pytest
from django.core import mail

from notifications.api import policy, task
from notifications.contrib.deliveries.models import Delivery
from notifications.jobs import retry
from notifications.testing import run_jobs
from tests.contrib.deliveries.conftest import send_due

pytestmark = pytest.mark.django_db(transaction=True)
fails = [True]


@task
@policy(max_attempts=1)
def fetch():
    if fails[0]:
        raise OSError


@pytest.mark.parametrize("is_own", [True, False])
def test_a_success_after_an_own_retry_is_not_sent(user, by_email, jobs_clock, is_own):
    fails[0] = True
    job = uuid.UUID(fetch.using(owner=user).enqueue().id)
    run_jobs()
    send_due()
    fails[0] = False
    retry([job], by=user.pk if is_own else None)
    run_jobs()
    send_due()
    assert len(mail.outbox) == (1 if is_own else 2)
    assert list(Delivery.objects.order_by("id").values_list("reason", flat=True)) == [
        "",
        "read" if is_own else "",
    ]
