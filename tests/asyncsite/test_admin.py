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


@pytest.mark.parametrize(
    "lookup", ["report?urls__contains=a", "report?title__regex=(a%2B)%2B$", "call?error__startswith=a"]
)
def test_lists_accept_the_parameters_of_their_filters_only(admin_client, make_report, lookup):
    make_report(ok=[1])
    assert admin_client.get(f"/admin/asyncsite/{lookup.replace('?', '/?')}").status_code == 400
    for filters in (
        "report/?created_at__year=2026&created_at__month=1",
        "call/?outcome__exact=ok&status=200",
    ):
        assert admin_client.get(f"/admin/asyncsite/{filters}").status_code == 200
