"""The write half of a stream: jobs of demo that write, without a worker, for tests/support/driver.py."""

from django.contrib.auth import get_user_model

from tests.browser.output_actions import end as end
from tests.browser.output_actions import start_job as start_job
from tests.browser.output_actions import write as write
from tests.support.site_actions import sign_in


def create_demo_session():
    """Return the key of a session of demo."""
    return sign_in(get_user_model().objects.get(username="demo"))
