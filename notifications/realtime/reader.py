"""Read changes for many users in one pass, and encode them as frames. All functions run in a thread."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, NamedTuple

from notifications import streams
from notifications.db.unavailable import is_damage, is_query_error, log_damage
from notifications.models import Notification
from notifications.realtime import frames
from notifications.serializers import encode_item, encoded_size
from notifications.streams import changes, positions
from notifications.streams.changes import MissedChanges
from notifications.streams.positions import Position


@dataclass(kw_only=True, slots=True)
class ReadRequest:
    """What to read, by user key.

    ``cursors`` are positions, of which the changes after each are read; None is a snapshot. For users with subscribers
    that are followed live, ``known_versions`` has the versions of active jobs that were sent last; jobs that differ
    are read. For ``syncing_users``, all active jobs are read.
    """

    cursors: dict[Any, set[int | None]] = field(default_factory=dict)
    known_versions: dict[Any, Mapping[Any, int]] = field(default_factory=dict)
    syncing_users: set[Any] = field(default_factory=set)

    def for_user(self, user: Any) -> ReadRequest:
        return ReadRequest(
            cursors={user: self.cursors[user]},
            known_versions={user: self.known_versions[user]} if user in self.known_versions else {},
            syncing_users=self.syncing_users & {user},
        )


@dataclass(kw_only=True, slots=True)
class ChangeRange:
    """The changes after ``prev`` (None for a snapshot) up to ``seq``, encoded.

    ``more`` says that further changes follow after ``seq``, ``reset`` that only a snapshot can follow ``prev``.
    """

    prev: int | None
    seq: int
    unread: int
    unseen: int
    items: list[str]
    more: bool = False
    reset: bool = False
    _change_frame: frames.Frame | None = None

    def change_frame(self) -> frames.Frame:
        """Return the live frame, which is made once for all subscribers."""
        if self._change_frame is None:
            self._change_frame = frames.change(self.prev or 0, self.seq, self.unread, self.unseen, self.items)
        return self._change_frame

    def sync_frame(self, epoch: str, jobs: list[str]) -> tuple[frames.Frame, bool]:
        """Return the sync frame, and whether another must follow: with more changes, or with jobs that do not fit."""
        more = self.more or encoded_size(self.items) + encoded_size(jobs) > frames.MAX_FRAME_BYTES
        frame = frames.sync(
            epoch, self.prev, self.seq, self.unread, self.unseen, self.items, None if more else jobs
        )
        return frame, more


@dataclass(kw_only=True, slots=True)
class ReadResult:
    """What was read, by user key; ``ranges`` by user key and cursor.

    ``epoch`` is set if there are syncing users. ``job_frames`` have the active jobs that changed, ``active_items`` all
    active jobs, newest first. ``versions`` are those of active jobs. For ``failed_users`` nothing could be read.
    """

    epoch: str | None
    positions: dict[Any, Position] = field(default_factory=dict)
    ranges: dict[tuple[Any, int | None], ChangeRange] = field(default_factory=dict)
    job_frames: dict[Any, list[frames.Frame]] = field(default_factory=dict)
    active_items: dict[Any, list[str]] = field(default_factory=dict)
    versions: dict[Any, dict[Any, int]] = field(default_factory=dict)
    failed_users: set[Any] = field(default_factory=set)

    def update(self, other: ReadResult) -> None:
        """Add the result for other users."""
        self.epoch = self.epoch or other.epoch
        self.positions.update(other.positions)
        self.ranges.update(other.ranges)
        self.job_frames.update(other.job_frames)
        self.active_items.update(other.active_items)
        self.versions.update(other.versions)
        self.failed_users |= other.failed_users


def read_changes(request: ReadRequest) -> ReadResult:
    """Read for all users in one pass, or user by user if the rows of one of them are damaged."""
    result = ReadResult(epoch=None)
    try:
        return _read(request)
    except Exception as exc:
        if is_query_error(exc) and not is_damage(exc):
            raise
        if len(request.cursors) == 1:
            [user] = request.cursors
            _log_unreadable_rows(user, f"{type(exc).__name__}: {exc}")
            result.failed_users.add(user)
            return result
    for user in request.cursors:
        result.update(read_changes(request.for_user(user)))
    return result


@lru_cache(maxsize=1_000)
def _log_unreadable_rows(user: Any, error: str) -> None:
    """Log which rows keep a user's stream from being read. Once in this process: the read is tried each second."""
    for row in changes.find_unreadable_rows(user) or [f"a row of stream {user}"]:
        log_damage(row, error)


def _read(request: ReadRequest) -> ReadResult:
    result = ReadResult(epoch=positions.epoch() if request.syncing_users else None)
    encoded: dict[Any, str] = {}
    snapshot_heads = {}
    for (user, cursor), missed in changes.read_missed(request.cursors).items():
        result.positions[user], result.versions[user] = missed.position, missed.versions
        if cursor is None:
            snapshot_heads[user] = missed.position.head
        else:
            result.ranges[user, cursor] = _encode_missed(cursor, missed, encoded)
    if snapshot_heads:
        for user, rows in changes.read_snapshots(snapshot_heads).items():
            result.ranges[user, None] = _encode_snapshot(result.positions[user], rows)
    _read_active_jobs(request, result)
    return result


class SyncResponse(NamedTuple):
    """A sync frame for an HTTP client, and the entity tag of the state after it."""

    frame: frames.Frame
    etag: str


def read_sync(user: Any, epoch: str | None, seq: int | None) -> SyncResponse:
    """Return the sync frame after a client's position, or a snapshot if either part of the position is None."""
    current_epoch = positions.epoch()
    cursor = seq if epoch == current_epoch else None
    missed = None if cursor is None else changes.read_missed({user: [cursor]})[user, cursor]
    if missed is None or missed.reset:
        streams.number_if_needed([user])
        missed = changes.read_missed({user: [None]})[user, None]
        rows = changes.read_snapshots({user: missed.position.head})[user]
        change_range = _encode_snapshot(missed.position, rows)
    else:
        assert cursor is not None
        change_range = _encode_missed(cursor, missed, {})
    versions = {} if change_range.more else missed.versions
    jobs = changes.read_active_jobs(versions)
    versions.update((id, jobs[id].version) for id in versions.keys() & jobs.keys())
    frame, more = change_range.sync_frame(current_epoch, _encode_active_jobs(versions, jobs))
    return SyncResponse(frame, etag(user, current_epoch, change_range.seq, {} if more else versions))


def etag(user: Any, epoch: str, seq: int, versions: Mapping[Any, int]) -> str:
    """Return the entity tag of a position and the versions of active jobs."""
    state = [user, epoch, seq, *versions.items()]
    return f'"{hashlib.blake2b(repr(state).encode(), digest_size=16).hexdigest()}"'


def _encode_missed(cursor: int, missed: MissedChanges, encoded: dict[Any, str]) -> ChangeRange:
    """Encode as many rows as fit a frame. ``encoded`` caches texts, for rows that several cursors have missed."""
    position = missed.position
    if missed.reset:
        return ChangeRange(
            prev=cursor, seq=cursor, unread=position.unread, unseen=position.unseen, items=[], reset=True
        )
    texts = [_encode_once(row, encoded) for row in missed.rows]
    items = frames.take_fitting(texts, frames.MAX_FRAME_BYTES)
    more = missed.cut or len(items) < len(texts)
    seq = missed.rows[len(items) - 1].seq if more else position.head
    return ChangeRange(
        prev=cursor, seq=seq, unread=position.unread, unseen=position.unseen, items=items, more=more
    )


def _encode_snapshot(position: Position, rows: list[Notification]) -> ChangeRange:
    texts = (encode_item(row) for row in reversed(rows))
    newest_first = frames.take_fitting(texts, frames.MAX_SNAPSHOT_BYTES)
    return ChangeRange(
        prev=None,
        seq=position.head,
        unread=position.unread,
        unseen=position.unseen,
        items=newest_first[::-1],
    )


def _read_active_jobs(request: ReadRequest, result: ReadResult) -> None:
    ids: set[Any] = set()
    for user, user_versions in result.versions.items():
        if user in request.known_versions:
            known = request.known_versions[user]
            ids.update(id for id, version in user_versions.items() if known.get(id) != version)
        if user in request.syncing_users:
            ids.update(user_versions)
    rows = changes.read_active_jobs(ids) if ids else {}
    for user_versions in result.versions.values():
        user_versions.update((id, rows[id].version) for id in user_versions.keys() & rows.keys())
    for user, known in request.known_versions.items():
        # Compare the versions of the rows: one that was read for a syncing user may have changed since its version was.
        changed = [id for id, version in result.versions[user].items() if known.get(id) != version]
        result.job_frames[user] = _build_job_frames([encode_item(rows[id]) for id in changed if id in rows])
    for user in request.syncing_users:
        result.active_items[user] = _encode_active_jobs(result.versions[user], rows)


def _build_job_frames(texts: list[str]) -> list[frames.Frame]:
    job_frames = []
    while texts:
        fitting = frames.take_fitting(texts, frames.MAX_JOBS_BYTES)
        job_frames.append(frames.jobs(fitting))
        del texts[: len(fitting)]
    return job_frames


def _encode_active_jobs(versions: Mapping[Any, int], rows: Mapping[Any, Any]) -> list[str]:
    """Return the items of active jobs, newest first, as many as fit."""
    return frames.take_fitting(
        (encode_item(rows[id]) for id in versions if id in rows), frames.MAX_JOBS_BYTES
    )


def _encode_once(row: Any, encoded: dict[Any, str]) -> str:
    key = (row.id, row.seq)
    text = encoded.get(key)
    if text is None:
        text = encoded[key] = encode_item(row)
    return text
