"""One look at the database for everybody who waits for it, and what is sent of it. Runs in a thread."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from django.db import Error as DatabaseFault

from notifications import serializers, streams
from notifications.db.damaged_rows import is_damage, log_damage
from notifications.models import Notification
from notifications.realtime import frames
from notifications.streams import changes
from notifications.streams.changes import MissedChanges, Position


@dataclass(kw_only=True, slots=True)
class ReadRequest:
    """What to look for: the changes after ``cursors`` of each user (None: a snapshot); of users whom somebody follows
    live, active jobs that differ from the ``known`` versions; of ``starting`` users, all active jobs."""

    cursors: dict[Any, set[int | None]] = field(default_factory=dict)
    known: dict[Any, Mapping[Any, int]] = field(default_factory=dict)
    starting: set[Any] = field(default_factory=set)

    def of(self, user: Any) -> ReadRequest:
        """Return what is wanted of one user."""
        return ReadRequest(
            cursors={user: self.cursors[user]},
            known={user: self.known[user]} if user in self.known else {},
            starting=self.starting & {user},
        )


@dataclass(kw_only=True, slots=True)
class ChangeRange:
    """What follows ``prev`` (None: a snapshot) up to ``seq``, encoded. ``reset``: it cannot be followed from there."""

    prev: int | None
    seq: int
    unread: int
    items: list[str]
    more: bool = False
    reset: bool = False
    _change: frames.Frame | None = None

    def change(self) -> frames.Frame:
        """Return the live frame; made once for all who get it."""
        if self._change is None:
            self._change = frames.change(self.prev or 0, self.seq, self.unread, self.items)
        return self._change

    def sync(self, epoch: str, jobs: list[str]) -> tuple[frames.Frame, bool]:
        """Return the frame for somebody who catches up, and whether more must follow: rows, or jobs without room."""
        more = (
            self.more
            or serializers.encoded_size(self.items) + serializers.encoded_size(jobs) > frames.FRAME_BYTES
        )
        return frames.sync(epoch, self.prev, self.seq, self.unread, self.items, None if more else jobs), more


@dataclass(kw_only=True, slots=True)
class ReadResult:
    """What was found: the ``epoch`` where somebody starts, ``positions`` of users, ``spans`` by user and cursor,
    ``jobs`` frames with active jobs that changed, all ``active`` items, newest first, and ``versions`` of active jobs.
    """

    epoch: str | None
    positions: dict[Any, Position] = field(default_factory=dict)
    spans: dict[tuple[Any, int | None], ChangeRange] = field(default_factory=dict)
    jobs: dict[Any, list[frames.Frame]] = field(default_factory=dict)
    active: dict[Any, list[str]] = field(default_factory=dict)
    versions: dict[Any, dict[Any, int]] = field(default_factory=dict)
    #: Users of whom something cannot be read; there is nothing else of them here.
    failed: set[Any] = field(default_factory=set)

    def add(self, other: ReadResult) -> None:
        """Take in what was found for other users."""
        self.epoch = self.epoch or other.epoch
        for name in ("positions", "spans", "jobs", "active", "versions"):
            getattr(self, name).update(getattr(other, name))


def read_changes(wanted: ReadRequest) -> ReadResult:
    """Look once for many users; for one after the other if something about one of them cannot be read."""
    try:
        return _look(wanted)
    except Exception as exc:
        if isinstance(exc, DatabaseFault) and not is_damage(exc):
            raise
    seen = ReadResult(epoch=None)
    for user in wanted.cursors:
        try:
            seen.add(_look(wanted.of(user)))
        except Exception as exc:
            if isinstance(exc, DatabaseFault) and not is_damage(exc):
                raise
            log_damage(f"stream {user}", f"{type(exc).__name__}: {exc}")
            seen.failed.add(user)
    return seen


def _look(wanted: ReadRequest) -> ReadResult:
    """Changes first, active jobs after them: what finishes in between is then in neither, and follows as a change,
    instead of being shown as running after it was shown as done."""
    seen = ReadResult(epoch=streams.epoch() if wanted.starting else None)
    encoded: dict[Any, str] = {}
    after = {user: [at for at in cursors if at is not None] for user, cursors in wanted.cursors.items()}
    found = changes.read_missed(after)
    for (user, cursor), missed in found.items():
        seen.positions[user] = missed.position
        seen.spans[user, cursor] = _change_range(cursor, missed, encoded)
    fresh = [user for user, cursors in wanted.cursors.items() if None in cursors]
    positions = changes.positions(fresh)
    snapshots = changes.read_snapshots({user: position.head for user, position in positions.items()})
    for user, position in positions.items():
        seen.positions[user] = position
        seen.spans[user, None] = _snapshot(position, snapshots.pop(user))
    _read_active_jobs(wanted, seen)
    return seen


class CatchUp(NamedTuple):
    """A sync frame for a client over HTTP, and the entity tag of what it leads to."""

    frame: frames.Frame
    etag: str


def catch_up(user: Any, epoch: str | None, seq: int | None) -> CatchUp:
    """Return what answers a client (key) over HTTP who says where it is; None for either: a snapshot."""
    now = streams.epoch()
    cursor = seq if epoch == now else None
    span = None
    if cursor is not None:
        span = _change_range(cursor, changes.read_missed({user: [cursor]})[user, cursor], {})
    if span is None or span.reset:
        number_first([user])
        position = changes.position(user)
        span = _snapshot(position, changes.read_snapshot(user, position.head))
    versions = {} if span.more else changes.read_active_versions([user]).get(user, {})
    rows = changes.read_active_jobs(versions)
    versions.update((id, rows[id].version) for id in versions.keys() & rows.keys())
    frame, more = span.sync(now, _encode_active(versions, rows))
    return CatchUp(frame, etag(user, now, span.seq, {} if more else versions))


def etag(user: Any, epoch: str, seq: int, versions: Mapping[Any, int]) -> str:
    """Return the entity tag of where a frame leads: a position, and the versions of the active jobs in it."""
    state = [user, epoch, seq, *versions.items()]
    return f'"{hashlib.blake2b(repr(state).encode(), digest_size=16).hexdigest()}"'


def number_first(users: list[Any]) -> None:
    """Number these users where something waits for it, so that a snapshot misses nothing that was committed."""
    if waiting := changes.find_unnumbered_users(users):
        streams.number(waiting)


def _change_range(cursor: int, missed: MissedChanges, encoded: dict[Any, str]) -> ChangeRange:
    """Encode what was missed, each row once for all cursors, as many rows as fit a frame."""
    position = missed.position
    if missed.reset:
        return ChangeRange(prev=cursor, seq=cursor, unread=position.unread, items=[], reset=True)
    texts = [_encode_once(row, encoded) for row in missed.rows]
    items = frames.fit(texts, frames.FRAME_BYTES)
    more = missed.cut or len(items) < len(texts)
    seq = missed.rows[len(items) - 1].seq if more else position.head
    return ChangeRange(prev=cursor, seq=seq, unread=position.unread, items=items, more=more)


def _snapshot(position: Position, rows: list[Notification]) -> ChangeRange:
    newest_first = frames.fit((serializers.encode_item(row) for row in reversed(rows)), frames.SNAPSHOT_BYTES)
    return ChangeRange(prev=None, seq=position.head, unread=position.unread, items=newest_first[::-1])


def _read_active_jobs(wanted: ReadRequest, seen: ReadResult) -> None:
    versions = changes.read_active_versions(wanted.cursors)
    ids: set[Any] = set()
    for user in wanted.cursors:
        seen.versions[user] = mine = versions.get(user, {})
        if user in wanted.known:
            ids.update(id for id, version in mine.items() if wanted.known[user].get(id) != version)
        if user in wanted.starting:
            ids.update(mine)
    rows = changes.read_active_jobs(ids)
    for mine in seen.versions.values():
        mine.update((id, rows[id].version) for id in mine.keys() & rows.keys())
    for user, known in wanted.known.items():
        seen.jobs[user] = []
        # By the rows: one that was read for somebody who starts may have moved on since its version was.
        changed = [id for id, version in seen.versions[user].items() if known.get(id) != version]
        texts = [serializers.encode_item(rows[id]) for id in changed if id in rows]
        while texts:
            some = frames.fit(texts, frames.JOBS_BYTES)
            seen.jobs[user].append(frames.jobs(some))
            del texts[: len(some)]
    for user in wanted.starting:
        seen.active[user] = _encode_active(seen.versions[user], rows)


def _encode_active(versions: Mapping[Any, int], rows: Mapping[Any, Any]) -> list[str]:
    """Items of active jobs, newest first, as many as fit."""
    return frames.fit((serializers.encode_item(rows[id]) for id in versions if id in rows), frames.JOBS_BYTES)


def _encode_once(row: Any, encoded: dict[Any, str]) -> str:
    key = (row.id, row.seq)
    text = encoded.get(key)
    if text is None:
        text = encoded[key] = serializers.encode_item(row)
    return text
