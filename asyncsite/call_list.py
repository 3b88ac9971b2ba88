"""The calls on the page of a report: filtered by outcome and text, sorted by a column, in pages."""

from dataclasses import dataclass
from urllib.parse import urlencode

from django.core.paginator import Page, Paginator
from django.db.models import BigIntegerField, Case, F, Q, Value, When
from django.utils.translation import gettext_lazy as _
from django.utils.translation import pgettext_lazy

from asyncsite.models import Call

CALLS_PER_PAGE = 50
MAX_SEARCH_LENGTH = 200
FAILURES_FIRST = Case(
    When(outcome=Call.Outcome.FAILED, then=Value(0)), When(outcome=Call.Outcome.REFUSED, then=Value(1)),
    default=Value(2),
)  # fmt: skip
#: While a report is watched: what did not pass, in the order in which it failed, then the rest by number.
PROBLEMS_AS_THEY_CAME = (
    Case(When(outcome=Call.Outcome.OK, then=Value(1)), default=Value(0)),
    Case(When(outcome=Call.Outcome.OK, then=F("position")), default=F("pk"), output_field=BigIntegerField()),
)
#: The columns of the table: the value of ``sort`` (with "-" for descending), the heading, its class.
COLUMNS = (
    ("position", _("No."), "number"),
    ("url", _("URL"), ""),
    ("outcome", _("Outcome"), ""),
    ("status", _("Status"), ""),
    ("elapsed_ms", _("Response time"), "number"),
    ("bytes", _("Size"), "number"),
    ("", _("Type"), ""),
)
#: The texts of an empty list, by outcome.
NO_CALLS = {"ok": _("No passed calls."), "failed": _("No failed calls."), "refused": _("No refused calls.")}
NO_MATCHES = {
    "": _("No calls match “{search}”."),
    "ok": _("No passed calls match “{search}”."),
    "failed": _("No failed calls match “{search}”."),
    "refused": _("No refused calls match “{search}”."),
}
SORTS = {f"{sign}{name}" for name, _, _ in COLUMNS if name for sign in ("", "-")}


@dataclass(frozen=True, kw_only=True)
class Column:
    """A heading. ``query`` sorts by it, ``direction`` is the value of ``aria-sort`` or ``""``."""

    label: str
    css_class: str
    query: str
    direction: str


@dataclass(frozen=True, kw_only=True)
class Selection:
    """What the query of a page selects. Values that make no sense are ignored."""

    outcome: str
    search: str
    sort: str

    def query(self, **changes):
        """Return the query string of a link: this selection with changes, without ``page`` unless it is given."""
        values = {"outcome": self.outcome, "q": self.search, "sort": self.sort, **changes}
        return "?" + urlencode({name: value for name, value in values.items() if value})


@dataclass(frozen=True, kw_only=True)
class CallList:
    selection: Selection
    page: Page
    columns: list[Column]
    outcomes: list[tuple[str, str, int, str]]  # value, label, count, query
    is_active: bool = False

    @property
    def previous_query(self):
        return self.selection.query(page=self.page.previous_page_number())

    @property
    def next_query(self):
        return self.selection.query(page=self.page.next_page_number())

    @property
    def empty_text(self):
        """Say that no call is selected."""
        if self.selection.search:
            return NO_MATCHES[self.selection.outcome].format(search=self.selection.search)
        if self.is_active and not self.selection.outcome:
            return _("Calls that do not pass appear here, the others at the end.")
        return NO_CALLS.get(self.selection.outcome, _("No calls."))


def parse_selection(query):
    outcome, sort = query.get("outcome"), query.get("sort")
    return Selection(
        outcome=outcome if outcome in Call.Outcome.values else "",
        search=query.get("q", "").replace("\0", "").strip()[:MAX_SEARCH_LENGTH],
        sort=sort if sort in SORTS else "",
    )


def build_call_list(report, query, totals, *, is_active):
    """Return the CallList of a report for the query of a request.

    What did not pass is listed first. While the report is active only this is listed, unless an outcome is selected: so
    rows are appended, and none moves, also when the others follow at the end of a report that is ``watched``. A page
    that is opened afterwards has them by outcome and number.
    """
    selection = parse_selection(query)
    calls = Call.objects.filter(report=report)
    if selection.outcome:
        calls = calls.filter(outcome=selection.outcome)
    elif is_active:
        calls = calls.exclude(outcome=Call.Outcome.OK)
    if selection.search:
        calls = calls.filter(Q(url__icontains=selection.search) | Q(error__icontains=selection.search))
    is_watched = is_active or "watched" in query
    default = PROBLEMS_AS_THEY_CAME if is_watched else find_order("outcome")
    calls = calls.order_by(*(find_order(selection.sort) if selection.sort else default))
    return CallList(
        is_active=is_active,
        selection=selection,
        page=Paginator(calls, CALLS_PER_PAGE).get_page(query.get("page")),
        columns=[build_column(selection, *column) for column in COLUMNS],
        outcomes=build_outcomes(selection, totals, is_active=is_active),
    )


def build_outcomes(selection, totals, *, is_active=False):
    """Return the filters by outcome, with their numbers of calls.

    Those that would select nothing, or the same as the first one, are left out, unless they are chosen. While the
    report is active, the first one selects all that did not pass.
    """
    outcomes = [
        ("failed", pgettext_lazy("calls", "Failed"), totals.failed),
        ("refused", _("Refused"), totals.refused),
        ("ok", _("Passed"), totals.ok),
    ]
    shown = [value for value, *_rest in outcomes if getattr(totals, value)]
    if is_active:
        shown = [value for value in shown if value == "ok"]
    elif len(shown) == 1:
        shown = []
    first = (
        ("", _("Not passed"), totals.problems) if is_active else ("", _("All"), totals.ok + totals.problems)
    )
    return [
        (value, label, count, selection.query(outcome=value))
        for value, label, count in (first, *outcomes)
        if not value or value in (*shown, selection.outcome)
    ]


def find_order(sort):
    name = sort.removeprefix("-")
    if name == "outcome":
        return (FAILURES_FIRST.desc() if sort == "-outcome" else FAILURES_FIRST, "position")
    field = F(name)
    order = field.desc(nulls_last=True) if sort.startswith("-") else field.asc(nulls_last=True)
    return (order, "position")


def build_column(selection, name, label, css_class):
    direction = {name: "ascending", f"-{name}": "descending"}.get(selection.sort, "") if name else ""
    query = selection.query(sort=f"-{name}" if selection.sort == name else name) if name else ""
    return Column(label=label, css_class=css_class, query=query, direction=direction)
