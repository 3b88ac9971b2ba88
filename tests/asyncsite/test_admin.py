"""The admin shows reports and calls, and does not edit them."""

import pytest


@pytest.mark.parametrize("model", ["report", "call"])
def test_staff_see_reports_and_calls(admin_client, make_report, model):
    report = make_report(ok=[1])
    pk = report.pk if model == "report" else report.calls.get().pk
    assert admin_client.get(f"/admin/asyncsite/{model}/?q=e").status_code == 200
    html = admin_client.get(f"/admin/asyncsite/{model}/{pk}/change/").content.decode()
    assert 'name="_save"' not in html
    assert admin_client.get(f"/admin/asyncsite/{model}/add/").status_code == 403
