"""E-mails of each kind, for tests/support/driver.py."""

from django.contrib.auth import get_user_model
from django.utils import timezone, translation

from notifications.api import notify
from notifications.contrib.deliveries import preferences, sending
from notifications.contrib.deliveries.models import Delivery
from notifications.models import Job
from notifications.testing import run_jobs
from tests.contrib.questions import question_tasks

User = get_user_model()
LONG = "https://files.example/" + "a-very-long-name-" * 9


def send(kind, language):
    """Send an e-mail of a kind to a new user."""
    user = User.objects.create_user(kind, email=f"{kind}@users.example")
    with translation.override(language):
        if kind == "question":
            other = User.objects.create_user("lovelace", first_name="Ada", last_name="Lovelace")
            task = question_tasks.ask_about_draft.using(owner=user, title=f"Letters of {LONG}")
            task.enqueue(to=[user.pk, other.pk], argument="")
            run_jobs()
        elif kind == "notification":
            body = f"It has 12,480 rows.\n\nIt is stored for 30 days at {LONG}"
            notify(user, "The export of all orders of October is ready", body=body, url="/exports/1/")
        else:
            for category in ("export", "comments", ""):
                preferences.choose(user.pk, {(category, "email"): "hourly"})
                for number in range(20):
                    title = f"The export {number} is ready" if number else f"Ready: {LONG}"
                    notify(user, title, body="It has 12,480 rows. " * (number % 3 * 8), category=category)
    Delivery.objects.update(due_at=timezone.now())
    while sending.enqueue_due():
        pass
    Job.objects.filter(state="queued").update(run_after=None, due_at=None)
    run_jobs()
