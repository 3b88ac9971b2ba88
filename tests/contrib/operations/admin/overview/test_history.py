"""What the charts show."""

import pytest
from django.utils import timezone

from notifications.contrib.operations.admin.overview import history
from notifications.testing import run_jobs
from tests.contrib.operations.test_overview import FIGURES, PAGE
from tests.jobs import tasks


def test_charts_of_a_queue_or_task(admin_client):
    """By the address: the charts and their table follow it, with active jobs; all other figures stay."""
    tasks.noop.enqueue(), tasks.noop.using(queue_name="mail").enqueue(), tasks.fail.enqueue()
    run_jobs()
    tasks.noop.using(queue_name="mail").enqueue(), tasks.fail.using(queue_name="mail").enqueue()
    noop = "tests.jobs.tasks.noop"
    now = timezone.now()
    of_all = history.read_history("hour", now)
    assert (of_all.totals.enqueued, of_all.totals.ended) == (5, 3)
    assert of_all.totals.ended_per_minute == pytest.approx(3 / 60, rel=0.05)
    assert sorted(of_all.queues) == ["default", "mail"]

    def counted(found):
        return found.queue, found.enqueued, found.ended, found.failed, found.wait.counts, found.run.counts

    all_counts = list(map(counted, (of_all.totals, *of_all.queues.values())))
    for selection, expected in (
        ({}, (5, 3)),
        ({"queue": "mail"}, (3, 1)),
        ({"task": noop}, (3, 2)),
        ({"queue": "mail", "task": noop}, (2, 1)),
        ({"queue": "none"}, (0, 0)),
    ):
        past = history.read_history("hour", now, **selection)
        counts = [(point.enqueued, point.ended) for point in past.points]
        assert tuple(map(sum, zip(*counts, strict=True))) == expected, selection
        assert list(map(counted, (past.totals, *past.queues.values()))) == all_counts
    page = admin_client.get(f"{PAGE}?queue=mail&task={noop}&period=day").text
    assert (
        f'data-overview-figures="{FIGURES}?period=day&amp;queue=mail&amp;task={noop}&amp;background=1"'
        in page
    )
    assert "<option selected>mail</option>" in page and f"<option selected>{noop}</option>" in page
    assert f'href="?period=week&amp;queue=mail&amp;task={noop}"' in page
    fragments = [admin_client.get(FIGURES, selection) for selection in ({}, {"queue": "mail"})]
    assert fragments[0]["ETag"] != fragments[1]["ETag"]
    assert "<code>mail</code>" in fragments[1].text and 'href="?period=hour"' in fragments[1].text
    assert f"{PAGE}?period=hour&amp;queue=mail&amp;task={noop}" in admin_client.get(f"{PAGE}tasks/").text
