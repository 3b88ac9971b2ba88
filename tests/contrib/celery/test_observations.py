"""What an observation says of a call."""

from notifications.contrib.celery.observations import Observation, TaskCall


def test_what_cannot_be_formatted_does_not_keep_a_task_from_being_published(caplog):
    def broken(*args):
        raise RuntimeError("host code")

    call = TaskCall("shop.tasks.export_year", None, (3,), {"year": "a b/c"})
    wrong = Observation(title="Export {nothing}", url=broken, owner=broken)
    assert (call.title(wrong), call.url(wrong), call.owner(wrong)) == ("Export year", "", None)
    assert caplog.text.count("shop.tasks.export_year") == 3
    assert call.url(Observation(url="/exports/{year}/")) == "/exports/a%20b%2Fc/"
    assert call.title(Observation(title="Export {year}" * 100)).endswith("…")
