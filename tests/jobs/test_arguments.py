"""What people are shown of arguments."""

import pytest

from notifications.jobs.arguments import describe_arguments
from notifications.models import Job
from tests.admin.test_job_page import HIDDEN, pay

pytestmark = pytest.mark.django_db


def test_values_of_secrets_are_hidden():
    """By their names, at any depth and position, and by the policy of the task."""
    card = {"number": 4, "cvc": {"pin": "1234"}, "notes": [{"token": "t0p"}]}
    job = Job.objects.get(pk=pay.enqueue("Ada", "hunter2", card=card, iban="DE99").id)
    assert describe_arguments(job, with_values=False) == "(str, str, card=dict, iban=str)"
    text = describe_arguments(job, with_values=True)
    assert 'customer = "Ada"' in text and '"number": 4' in text
    assert not any(secret in text for secret in ("hunter2", "1234", "t0p", "DE99"))
    assert text.count(HIDDEN) == 4


def test_positional_values_of_an_unknown_task_are_hidden():
    """Nothing says what they are."""
    job = Job(task_path="gone.tasks.pay", args='["hunter2"]', kwargs='{"size": 3}')
    assert describe_arguments(job, with_values=True) == "1 = str\nsize = 3"
    job = Job(task_path="gone.tasks.pay", args="[", kwargs="{}")
    assert describe_arguments(job, with_values=True) == "Damaged: not JSON"
