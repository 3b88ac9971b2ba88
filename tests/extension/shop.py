"""An extension that adds something to each page and command of the core."""

from datetime import timedelta
from zoneinfo import ZoneInfo

from notifications.extension import Event, Extension, JobSection, PageButton, Setting

PAGE, ADMIN = "shop/part.html", "admin/shop/part.html"


class Part(JobSection):
    name = "part"
    page_template, admin_template = PAGE, ADMIN

    def page_context(self, job, request):
        return {"part": f"Part of {job.pk} for {request.user.username}"}

    def admin_context(self, job, request):
        return {"part": f"Part of {job.pk} for {request.user.username}"}

    def lines(self, job):
        return ["", f"Part of {job.pk}"]

    def item(self, job):
        return {"id": str(job.pk)}


class Shop(Extension):
    name, label = "notifications.testing", "shop"
    settings = {
        "SHOP": Setting([], is_valid=all, rule="a list of names"),
        "SHOP_KEY": Setting("", is_secret=True),
    }
    job_sections = (Part(),)
    tables = {"notifications.SeenMark.at": "age"}

    def events_of(self, subject, reader):
        return [Event(None, "Will be sent"), Event(subject.created_at, f"Sold to {reader}")]

    def steps_of(self, job, limit, *, with_results, with_unfinished):
        took = timedelta(seconds=1)
        sales = [
            {
                "name": f"sale {number}",
                "attempt": 1,
                "started_at": job.started_at - number * took,
                "took": took,
                "text": '"sold"' if with_results else None,
                "size": 6 if with_results else None,
            }
            for number in range(3)
        ]
        return sales[:limit], len(sales)

    def page_links(self, page):
        return [(f"Shop & {page}", "/shop/")]

    def parts_of(self, rows, reader, place):
        return {
            row.pk: [PageButton(f"Hide “{row.title}”", "mute", "/hide/", "row", str(row.pk))] for row in rows
        }

    def time_zones_of(self, users):
        return dict.fromkeys(users, ZoneInfo("Asia/Tokyo"))
