"""The chart of response times."""

from xml.etree import ElementTree

from django.template.loader import render_to_string

from asyncsite.chart import build_chart


def test_each_call_is_in_one_bar():
    """A step includes its start and excludes its end. Steps without calls are shown between others."""
    chart = build_chart([0, 4, 5, 19, 20, 100, 12_000])
    assert [(bar.label, bar.count) for bar in chart.bars] == [
        ("under 5 ms", 2),
        ("5 to 10 ms", 1),
        ("10 to 20 ms", 1),
        ("20 to 50 ms", 1),
        ("50 to 100 ms", 0),
        ("100 to 200 ms", 1),
        ("200 to 500 ms", 0),
        ("500 ms to 1 s", 0),
        ("1 to 2 s", 0),
        ("2 to 5 s", 0),
        ("5 to 10 s", 0),
        ("10 s or more", 1),
    ]


def test_widths_follow_the_counts_and_notes_mark_median_and_95_percent():
    bars = build_chart([1, 12, 12, 12, 12, 30, 30]).bars
    assert [(bar.count, bar.width) for bar in bars] == [(1, 25), (0, 0), (4, 100), (2, 50)]
    assert [bar.note for bar in bars] == ["", "", "median", "95%"]
    assert build_chart([3]).bars[0].note == "median, 95%"


def test_without_a_response_there_is_no_chart():
    assert build_chart([]) is None


def test_the_chart_is_accessible():
    """It has a title, a description and a table with all numbers, and no inline style, which the policy forbids."""
    html = render_to_string("asyncsite/chart.html", {"chart": build_chart([3, 3, 700])})
    svg = ElementTree.fromstring(html[html.index("<svg") : html.index("</svg>") + 6])
    assert svg.attrib["role"] == "img"
    labels = {element.attrib["id"]: element.text for element in svg if "id" in element.attrib}
    assert svg.attrib["aria-labelledby"].split() == list(labels)
    assert labels["chart-title"] == "Response times of the calls"
    assert labels["chart-desc"].startswith("under 5 ms: 2 calls (median); 5 to 10 ms: 0 calls;")
    table = html[html.index("<table") :]
    assert "under 5 ms (median)" in table and "500 ms to 1 s (95%)" in table
    assert "style=" not in html and "<style" not in html and "fill=" not in html
