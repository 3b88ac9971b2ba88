"""A client of the protocol as docs/reference/protocol.md has it, without a network: frames in, frames to send out."""

#: ms from and up to which a client waits before it comes back; after 4000 with an after_ms: from that on.
SOON, LATER = (0, 3_000), (30_000, 45_000)
FINAL = (4400, 4401, 4409)


class Follower:
    """`hello()` begins a connection, `take(frame)` returns the frames to send, `ended(code)` says when to come back."""

    def __init__(self, epoch=None, seq=None, unread=None):
        self.epoch, self.cursor, self.unread = epoch, seq, unread
        self.notifications, self.jobs = {}, {}
        self.resets = 0
        self.since = seq  # it was sent all that followed this position
        self.bye = None
        self.asks = []  # paths to GET, of active jobs that were not in the last sync

    def hello(self):
        self.bye = None
        return {"op": "hello", "epoch": self.epoch, "seq": self.cursor}

    def take(self, frame):
        """Apply a frame of the server and return the frames to send at once."""
        op, missed = frame.get("op"), False
        if op in ("sync", "change", "jobs"):
            missed = not self._apply(frame)
        elif op == "beat":
            missed = frame["seq"] != self.cursor
        elif op == "bye":
            self.bye = frame
        # Without a position the snapshot is on its way.
        answers = [{"op": "sync", "seq": self.cursor}] if missed and self.cursor is not None else []
        if frame.get("ack") is True:
            answers.append({"op": "ack", "n": frame["n"]})
        return answers

    def hold(self, item):
        """Take one item, live or from HTTP; False where it is older than what is held, or of a kind not known."""
        kinds = {"notification": (self.notifications, "seq"), "job": (self.jobs, "version")}
        held, order = kinds.get(item["kind"], ({}, None))
        if order is None:
            return False
        before = held.get(item["id"])
        if before and item[order] < before[order]:
            return False
        held[item["id"]] = item
        return True

    def ended(self, code):
        """Return (from, to) in ms after which to come back from an end with this code, None for never."""
        if code in FINAL:
            return None
        if code == 4429:
            return LATER
        after = self.bye["after_ms"] if self.bye else 0
        return (after, after * 2) if after else SOON

    def _apply(self, frame):
        if frame["op"] == "jobs":
            return self._hold_all(frame)
        if frame.get("reset"):
            self.notifications.clear()
            self.jobs.clear()
            self.epoch, self.cursor, self.unread = frame["epoch"], frame["seq"], frame["unread"]
            self.since = self.cursor
            self.resets += 1
            return self._hold_all(frame)
        if self.cursor is None or frame["prev"] > self.cursor:
            return False
        if frame["seq"] >= self.cursor:
            self.unread = frame["unread"]
            self.cursor = frame["seq"]
        return self._hold_all(frame)

    def _hold_all(self, frame):
        for item in (*frame.get("items", ()), *frame.get("jobs", ())):
            self.hold(item)
        if frame["op"] == "sync" and not frame["more"]:
            listed = {job["id"] for job in frame["jobs"]}
            self.asks += [
                job["links"]["self"]
                for job in self.jobs.values()
                if not job["done"] and job["id"] not in listed
            ]
        return True
