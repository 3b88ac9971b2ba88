"""A night at a partner's that fails a third of the calls, then all, then answers again.

night = Night(jobs_clock, users)
night.run(minutes=20, failing=1 / 3)     # so many minutes later; the duties of operations have run each minute
night.doctor(), night.overview(client)   # what operators read then
"""

import os
import re
from datetime import timedelta
from io import StringIO

import pytest
from django.contrib.auth import get_user_model
from django.contrib.staticfiles import finders
from django.core.management import call_command
from django.db.models import F

from notifications.contrib.operations.models import Alert, Incident, JobStatistics
from notifications.db import database_now
from notifications.models import Attempt, Job, Notification, uuid7
from tests.support.browser import start_browser
from tests.support.checks import doctor
from tests.support.duties import run_duty

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.nightly_on_postgres]

TASK = "shop.tasks.fetch_orders"
TIMEOUT = "httpx.ConnectTimeout"
LOCATION = "shop.tasks.fetch_orders, line 12"
TRACEBACK = (
    "Traceback (most recent call last):\nhttpx.ConnectTimeout: https://partner.example/orders does not answer"
)


def without_day(text):
    """Return a text whose times read as if they were of today, which they are not at midnight."""
    return re.sub(r"[A-Z]\w+ \d+, (?:\d{4}, )?(\d\d:\d\d) UTC", r"\1", text)


def make_people(count, name="person"):
    model = get_user_model()
    made = model.objects.bulk_create(model(username=f"{name}-{n}", password="!") for n in range(count))
    return [user.pk for user in made]


class Night:
    def __init__(self, clock, users):
        self.clock, self.users = clock, list(users)
        self.ended = self.failed = 0

    @property
    def now(self):
        return database_now()

    def run(self, minutes, failing, per_minute=12.5):
        """Let jobs end for so many minutes, of which a share fails, and have what operators are told evaluated."""
        for minute in range(minutes):
            self.clock.advance(timedelta(minutes=1))
            count = int((minute + 1) * per_minute) - int(minute * per_minute)
            failed = int((minute + 1) * per_minute * failing) - int(minute * per_minute * failing)
            self.end_jobs(count - failed, failed)
            run_duty("record failures")
            run_duty("evaluate alerts")
        run_duty("announce problems")

    def end_jobs(self, succeeded, failed, task=TASK, error=(TIMEOUT, LOCATION, TRACEBACK)):
        now = self.now
        jobs = []
        for number in range(succeeded + failed):
            user = self.users[(self.failed + number) % len(self.users)] if self.users else None
            jobs.append(
                Job(
                    id=uuid7(),
                    task_path=task,
                    title="Fetch orders",
                    user_id=user,
                    state="failed" if number < failed else "succeeded",
                    attempt=1,
                    created_at=now,
                    queued_at=now,
                    started_at=now,
                    finished_at=now,
                    backend="default",
                    queue_name="default",
                    args="[]",
                    kwargs="{}",
                )
            )
        Job.objects.bulk_create(jobs)
        Attempt.objects.bulk_create(
            Attempt(
                job=job,
                number=1,
                ended_at=now,
                outcome="failed",
                **dict(zip(("exception_class_path", "location", "traceback"), error, strict=True)),
            )
            for job in jobs[:failed]
        )
        sums = {"enqueued": 0, "wait_microseconds": 0, "run_microseconds": 0}
        for period, seconds in enumerate((60, 3600, 86_400), 1):
            start = int(now.timestamp()) // seconds * seconds
            key = {"period": period, "shard": 0, "start": start, "queue_name": "default", "task_path": task}
            for outcome, count in (("succeeded", succeeded), ("failed", failed)):
                if count:
                    JobStatistics.objects.update_or_create(
                        **key,
                        outcome=outcome,
                        defaults={"count": F("count") + count},
                        create_defaults={"count": count, **sums},
                    )
        self.ended, self.failed = self.ended + succeeded + failed, self.failed + failed

    def doctor(self):
        return [without_day(finding["message"]) for finding in doctor("failures")]

    def overview(self, client):
        return client.get("/admin/notifications_operations/overview/")


@pytest.fixture
def operator(make_user):
    """Return a user who receives alerts."""
    return make_user("operator", is_superuser=True)


def mails(user):
    """Return title and body of what a user was notified of alerts, the oldest first."""
    rows = Notification.objects.filter(user=user, category="alert", title__contains="fetch_orders")
    return [(title, without_day(body)) for title, body in rows.order_by("id").values_list("title", "body")]


def test_since_when_and_until_when(jobs_clock, make_user, operator, user):
    """One incident and one alert from the first failure to the last, with its numbers, cause and people."""
    night = Night(jobs_clock, [user.pk])
    night.run(minutes=1, failing=0)
    assert mails(operator) == []
    night.run(minutes=6, failing=1 / 3)
    [incident] = Incident.objects.all()
    begun = incident.begun_at
    assert (incident.host, incident.users, incident.over_at) == ("partner.example", 1, None)
    [said] = night.doctor()
    assert said.startswith(f"{TASK}: Failing since {begun:%H:%M}: ")
    assert said.endswith(f"{night.failed} of 75, ConnectTimeout at {LOCATION}, 1 person")
    [(title, body)] = mails(operator)
    assert title == "Many jobs fail: fetch_orders"
    night.run(minutes=3, failing=1)
    night.run(minutes=4, failing=0)
    [incident] = Incident.objects.all()
    assert (incident.begun_at, incident.over_at) == (begun, None)
    night.run(minutes=3, failing=0)
    [incident] = Incident.objects.all()
    assert incident.over_at == incident.failed_at and night.doctor() == []
    [_, (title, body)] = mails(operator)
    assert title == "Over: Many jobs fail: fetch_orders"
    assert body == f"Over since {incident.over_at:%H:%M}, lasted 8 min"
    assert Alert.objects.filter(kind="failures").count() == 1


def test_several_errors_of_a_task_are_one_alert(jobs_clock, operator, user, other_user):
    """With the first one, and the number of all whom they affect, each once."""
    night = Night(jobs_clock, [user.pk, other_user.pk])
    for path in (TIMEOUT, "httpx.ReadTimeout"):
        jobs_clock.advance(60)
        night.end_jobs(succeeded=0, failed=12)
        Attempt.objects.filter(job__in=Job.objects.order_by("-finished_at")[:12]).update(
            exception_class_path=path
        )
    run_duty("record failures"), run_duty("evaluate alerts")
    run_duty("announce problems")
    [(_, body)] = mails(operator)
    assert body.endswith(f": 24 of 24, ConnectTimeout at {LOCATION} and 1 other error, 2 people")


@pytest.mark.long
def test_tasks_that_fail_at_one_host_are_one_alert(jobs_clock, operator, user, other_user, admin_client):
    """One message for one cause, and one of its end, when the last of them is over. What fails otherwise is another."""
    night = Night(jobs_clock, [user.pk, other_user.pk])
    prices, stock = "shop.tasks.fetch_prices", "shop.tasks.fetch_stock"
    night.end_jobs(0, 12, task="shop.tasks.unrelated_fetch_orders")
    Attempt.objects.update(traceback="ValueError: no host", exception_class_path="builtins.ValueError")

    def pass_minutes(minutes, **failed):
        for _ in range(minutes):
            jobs_clock.advance(timedelta(minutes=1))
            for task, count in {TASK: 0, prices: 0, stock: 0, **failed}.items():
                night.end_jobs(1, count, task=task)
            run_duty("record failures"), run_duty("evaluate alerts")
        run_duty("announce problems")

    pass_minutes(2, **{TASK: 12})
    begun = Incident.objects.get(task_path=TASK).begun_at
    pass_minutes(2, **{TASK: 12, prices: 12, stock: 12})
    [said] = [text for text in night.doctor() if text.startswith(TASK)]
    assert f"Failing since {begun:%H:%M}: 96 of 108, ConnectTimeout at {LOCATION}, 2 people" in said
    assert said.endswith(". Also: fetch_prices, fetch_stock")
    assert [title for title, _ in mails(operator)] == [
        "Many jobs fail: unrelated_fetch_orders",
        "Many jobs fail: fetch_orders",
    ]
    several = Alert.objects.get(kind="failures", subject=TASK)
    page = f"/admin/notifications_operations/alert/{several.pk}/change/"
    text = admin_client.get(page).text
    [address] = re.findall(r'href="[^"]*/job/[?]([^"]*)', text)
    assert "task_path" not in address and "finished_from" in address
    pass_minutes(8, **{stock: 12})  # the first task is over
    assert Incident.objects.get(task_path=TASK).over_at
    [said] = [text for text in night.doctor() if text.startswith(TASK)]
    assert f"Failing since {begun:%H:%M}: " in said
    pass_minutes(8)
    assert [title for title, _ in mails(operator)][2:] == ["Over: Many jobs fail: fetch_orders"]
    assert Alert.objects.filter(kind="failures").count() == 2


def test_one_task_with_many_errors_hides_no_other_task(jobs_clock, user):
    night = Night(jobs_clock, [user.pk])
    night.end_jobs(succeeded=0, failed=12)
    run_duty("record failures")
    fields = {"begun_at": night.now, "failed_at": night.now, "is_alert": True}
    Incident.objects.bulk_create(
        Incident(key=f"{number:032}", task_path="shop.tasks.other", **fields) for number in range(150)
    )
    [said, other] = sorted(night.doctor())
    assert said.startswith(TASK) and other.startswith("shop.tasks.other") and "149 other errors" in other


def text_of(response):
    return without_day(re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", response.text)))


def stats():
    out = StringIO()
    call_command("notifications", "jobs", "stats", by_task=True, stdout=out)
    [line] = [line for line in out.getvalue().splitlines() if TASK in line]
    return line.split()[2:5:2]


@pytest.mark.nightly
@pytest.mark.nightly
def test_each_quarter_of_the_night(jobs_clock, admin_client, admin_user, make_user):
    """500 jobs in 40 minutes, of which a third fails, then all: what is said is the same everywhere, and true."""
    people = [make_user(f"person-{n}").pk for n in range(61)]
    night = Night(jobs_clock, people)
    night.run(minutes=10, failing=1 / 3)
    begun = Incident.objects.get().begun_at
    for quarter, (minutes, failing) in enumerate(((5, 1 / 3), (15, 1 / 3), (10, 1))):
        night.run(minutes, failing)
        facts = (
            f"{night.failed} of {night.ended}, ConnectTimeout at {LOCATION}, {min(night.failed, 61)} people"
        )
        said = f"Failing since {begun:%H:%M}: {facts}"
        assert night.doctor() == [f"{TASK}: {said}"], quarter
        page = night.overview(admin_client)
        assert f"Many jobs fail: {TASK} {said}" in text_of(page), quarter
        [group] = page.context["figures"].failures.groups
        assert (group.begun_at, group.count, group.over) == (begun, night.failed, "")
        assert stats() == [str(night.ended), f"{night.failed / night.ended:.1%}"]
        assert len(mails(admin_user)) == 1, quarter
        if quarter == 1:  # somebody retries what has failed, and it fails once more
            jobs_clock.advance(1)
            Job.objects.filter(state="failed").update(finished_at=night.now)
    assert night.ended == 499
    for day in ("day", "week"):
        page = admin_client.get("/admin/notifications_operations/overview/", {"period": day})
        assert [group.begun_at for group in page.context["figures"].failures.groups] == [begun]
    Job.objects.filter(state="failed").update(state="succeeded")
    night.run(minutes=15, failing=0)
    [incident] = Incident.objects.all()
    ended = (
        f"ver since {incident.failed_at:%H:%M}, lasted {(incident.failed_at - begun).seconds / 60:.0f} min"
    )
    assert incident.over_at == incident.failed_at and night.doctor() == []
    page = night.overview(admin_client)
    assert {alert.kind for alert in page.context["figures"].alerts} == {"no_worker"}
    assert f"o{ended}" in text_of(page)
    [_, end] = mails(admin_user)
    assert end == ("Over: Many jobs fail: fetch_orders", f"O{ended}")


PHONE = {"viewport": {"width": 360, "height": 780}, "has_touch": True, "is_mobile": True}
#: The texts of elements that are on the screen, and by how much the page is wider than it.
READ_SCREEN = """() => {
    const isShown = (node) => {
        const { top, bottom, left, right } = node.getBoundingClientRect();
        return node.checkVisibility() && top >= 0 && bottom <= innerHeight && left >= 0 && right <= innerWidth;
    };
    const nodes = [...document.querySelectorAll("strong, div, a, button, h2, dd, .notifications-body")];
    const texts = nodes.filter(isShown).map((node) => node.innerText.replace(/\\s+/g, " "));
    return [texts.join(" | "), document.documentElement.scrollWidth - document.documentElement.clientWidth];
}"""


def read_on_phone(pages, folder):
    """Return what is on the screen of a phone without scrolling, by the names of pages, which are given as HTML."""

    def respond(route):
        path = route.request.url.partition("//")[2].partition("/")[2]
        if path.startswith("static/") and (file := finders.find(path.removeprefix("static/"))):
            return route.fulfill(path=file)
        return route.fulfill(body=pages.get(path, ""), content_type="text/html")

    found = {}
    with start_browser("chromium", folder) as browser:
        page = browser.new_context(**PHONE, java_script_enabled=False).new_page()
        page.route("**/*", respond)
        for name in pages:
            page.goto(f"http://night.example/{name}")
            text, excess = page.evaluate(READ_SCREEN)
            assert excess <= 0, name
            found[name] = without_day(text)
            if shots := os.environ.get("SCREENSHOTS"):
                page.screenshot(path=f"{shots}/night-{name}.png")
    return found


@pytest.mark.nightly
def test_what_a_phone_says_at_each_quarter(jobs_clock, admin_client, admin_user, make_user, tmp_path):
    """The first screens of the overview and of the inbox of an operator have what fails, since when, and for whom."""
    night = Night(jobs_clock, [make_user(f"person-{n}").pk for n in range(61)])
    pages, expected = {}, {}
    for quarter, (minutes, failing) in enumerate(((10, 1 / 3), (15, 1 / 3), (15, 1), (15, 0))):
        if not failing:
            Job.objects.filter(state="failed").update(state="succeeded")
        night.run(minutes, failing)
        pages[f"overview-{quarter}"] = night.overview(admin_client).text
        pages[f"inbox-{quarter}"] = admin_client.get("/notifications/").text
        begun = Incident.objects.get().begun_at
        said = f"Failing since {begun:%H:%M}: {night.failed} of {night.ended}, ConnectTimeout"
        facts = [f"Many jobs fail: {TASK}", said, f"{min(night.failed, 61)} people", "Acknowledge"]
        expected[f"overview-{quarter}"] = facts if failing else []
        expected[f"inbox-{quarter}"] = ["Many jobs fail: fetch_orders", f"Failing since {begun:%H:%M}"]
    over = Incident.objects.get().over_at
    expected["inbox-3"] = ["Over: Many jobs fail: fetch_orders", f"Over since {over:%H:%M}, lasted"]
    found = read_on_phone(pages, tmp_path)
    missing = {name: [text for text in texts if text not in found[name]] for name, texts in expected.items()}
    assert not any(missing.values()), missing
    assert "Many jobs fail" not in found["overview-3"]
