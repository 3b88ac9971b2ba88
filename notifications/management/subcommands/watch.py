"""``manage.py notifications watch USERNAME``: print a user's stream as it changes."""

from __future__ import annotations

import json
import threading
from argparse import ArgumentParser
from typing import Any

from django.core.management.base import CommandError
from django.db import connections

from notifications.db.sqlstates import is_missing
from notifications.db.unavailable import UNAVAILABLE
from notifications.management.management_command import ManagementCommand
from notifications.realtime import doorbell, frames, reader

#: Seconds between two reads while no ring comes.
POLL_INTERVAL_SECONDS = 5.0


class WatchCommand(ManagementCommand):
    help = (
        "Print the notifications and jobs of a user as they change. Ctrl-C stops it and prints how to resume."
    )
    examples = ("ada", "ada --once --json")

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("username")
        parser.add_argument(
            "--since", metavar="EPOCH:SEQ", help="start after this position, as printed at the end of a watch"
        )
        parser.add_argument(
            "--json", action="store_true", help="print one sync frame of the protocol per line"
        )
        parser.add_argument("--once", action="store_true", help="stop when all existing changes are printed")

    def handle(self, *args: Any, username: str, since: str | None, **options: Any) -> None:
        user = self.user_key_of(username)
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
        self.stderr.write_plain(
            f"Resume with: manage.py notifications watch {username} --since {epoch}:{seq}"
        )

    def show(
        self, user: Any, epoch: str | None, seq: int | None, shown: Shown, as_json: bool
    ) -> tuple[str | None, int | None, bool]:
        """Print the changes after a position; return the new position, and whether there are more."""
        try:
            text = frames.encode_unnumbered(reader.read_sync(user, epoch, seq).frame)
        except UNAVAILABLE as exc:
            if is_missing(exc):
                raise
            self.stderr.write(f"Could not read the database, trying again: {exc}")
            connections.close_all()
            return epoch, seq, False
        frame = json.loads(text)
        if as_json:
            if frame["items"] or frame["reset"] or shown.changed(frame.get("jobs", [])):
                self.stdout.write(text)
        else:
            for item in shown.changed([*frame["items"], *frame.get("jobs", [])]):
                self.stdout.write_line(line(item))
        self.stdout.flush()
        return frame["epoch"], frame["seq"], frame["more"]


class Shown:
    """The version of each item that was printed last, so that an active job is printed when it has changed."""

    def __init__(self) -> None:
        self.states: dict[str, Any] = {}

    def changed(self, items: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Return those of these items that were not printed in this version."""
        changed = []
        for item in items:
            state = item["version"] if item["kind"] == "job" else item["seq"]
            if self.states.get(item["id"]) != state:
                self.states[item["id"]] = state
                changed.append(item)
        return changed


def position(since: str | None) -> tuple[str | None, int | None]:
    """Return the epoch and seq of ``EPOCH:SEQ``; None for both means a snapshot."""
    if since is None:
        return None, None
    epoch, colon, seq = since.rpartition(":")
    if not (colon and epoch and seq.isascii() and seq.isdigit() and len(seq) < 17):
        raise CommandError(
            f"--since is {since[:100]!r}. It must be EPOCH:SEQ, as printed at the end of a watch."
        )
    return epoch, int(seq)


def line(item: dict[str, Any]) -> str:
    """Return an item as one line: its seq, kind, state or level, title and details."""
    if item["kind"] == "job":
        progress = item["progress"]
        state = item["state"]
        details = [item["title"], item["error"]["detail"] if item["error"] else ""]
        if progress and not item["done"]:
            total = "" if progress["total"] is None else f" of {progress['total']}"
            details.append(f"{progress['current']}{total} {progress['message']}".strip())
    else:
        state = "archived" if item["archived_at"] else "read" if item["read_at"] else item["level"]
        details = [item["title"], item["body"], item["url"] or ""]
    text = " | ".join(filter(None, details))
    return f"{item['seq'] or '-':>6}  {item['kind']:<12}  {state:<9}  {text}"
