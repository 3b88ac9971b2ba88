"""``manage.py watch USERNAME``: a user's stream in the terminal."""

from __future__ import annotations

import json
import threading
from argparse import ArgumentParser
from typing import Any

from django.contrib.auth import get_user_model
from django.core.management.base import BaseCommand, CommandError
from django.db import InterfaceError, OperationalError, connections

from notifications.realtime import doorbell, frames, reader

#: Seconds between two looks when nothing rings.
POLL_INTERVAL_SECONDS = 5.0


class Command(BaseCommand):
    help = "Show what a user is told and how their jobs go, as it happens. Ctrl-C ends it and says how to resume."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("username")
        parser.add_argument(
            "--since", metavar="EPOCH:SEQ", help="begin after this position; a watch says its own at its end"
        )
        parser.add_argument("--json", action="store_true", help="one sync frame of the protocol a line")
        parser.add_argument("--once", action="store_true", help="end when everything until now was shown")

    def handle(self, *args: Any, username: str, since: str | None, **options: Any) -> None:
        users = get_user_model()
        try:
            user = users._default_manager.get_by_natural_key(username).pk
        except users.DoesNotExist as exc:
            raise CommandError(f"There is no user {username!r}. Check the spelling.") from exc
        epoch, seq = position(since)
        rung = threading.Event()
        stop = doorbell.listen(lambda rung_users, queue: rung.set() if user in rung_users else None)
        shown = Shown()
        try:
            while True:
                rung.clear()
                epoch, seq, more = self.show(user, epoch, seq, shown, options["json"])
                if not more and options["once"]:
                    break
                if not more:
                    rung.wait(POLL_INTERVAL_SECONDS)
        except KeyboardInterrupt:
            pass
        finally:
            stop()
        self.stderr.write(f"Resume with: manage.py watch {username} --since {epoch}:{seq}")

    def show(
        self, user: Any, epoch: str | None, seq: int | None, shown: Shown, as_json: bool
    ) -> tuple[str | None, int | None, bool]:
        """Print what followed a position; return where that ends, and whether there is more."""
        try:
            text = frames.unnumbered(reader.catch_up(user, epoch, seq).frame)
        except (OperationalError, InterfaceError) as exc:
            self.stderr.write(f"The database is away, watching goes on when it is back: {exc}")
            connections.close_all()
            return epoch, seq, False
        frame = json.loads(text)
        if as_json:
            if frame["items"] or frame["reset"] or shown.changed(frame.get("jobs", [])):
                self.stdout.write(text)
        else:
            for item in shown.changed([*frame["items"], *frame.get("jobs", [])]):
                self.stdout.write(line(item))
        self.stdout.flush()
        return frame["epoch"], frame["seq"], frame["more"]


class Shown:
    """What was shown last of each item, so that an active job is shown when it has changed."""

    def __init__(self) -> None:
        self.states: dict[str, Any] = {}

    def changed(self, items: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Return those of these items that were not shown like this."""
        news = []
        for item in items:
            state = item["version"] if item["kind"] == "job" else item["seq"]
            if self.states.get(item["id"]) != state:
                self.states[item["id"]] = state
                news.append(item)
        return news


def position(since: str | None) -> tuple[str | None, int | None]:
    """Return the epoch and seq that ``EPOCH:SEQ`` names; neither of it means: from a snapshot."""
    if since is None:
        return None, None
    epoch, colon, seq = since.rpartition(":")
    if not (colon and epoch and seq.isascii() and seq.isdigit() and len(seq) < 17):
        raise CommandError(
            f"--since is {since[:100]!r}. It must be EPOCH:SEQ, as the end of a watch says it."
        )
    return epoch, int(seq)


def line(item: dict[str, Any]) -> str:
    """Return an item as one line: its place in the stream, what it is, how it is, its title and details."""
    if item["kind"] == "job":
        progress = item["progress"]
        how = item["state"]
        details = [item["title"], item["error"]["detail"] if item["error"] else ""]
        if progress and not item["done"]:
            total = "" if progress["total"] is None else f" of {progress['total']}"
            details.append(f"{progress['current']}{total} {progress['message']}".strip())
    else:
        how = "archived" if item["archived_at"] else "read" if item["read_at"] else item["level"]
        details = [item["title"], item["body"], item["url"] or ""]
    words = " | ".join(" ".join(detail.split()) for detail in details if detail)
    return f"{item['seq'] or '-':>6}  {item['kind']:<12}  {how:<9}  {words}"
