"""A client of the protocol in docs/reference/protocol.md without a network: it takes and returns frames."""

#: The minimum and maximum delay before a client connects again, without an after_ms.
RECONNECT_MS, RECONNECT_AFTER_4429_MS = (0, 3_000), (30_000, 45_000)
FINAL_CODES = (4400, 4401, 4409)


class Follower:
    """The state of a client: its position and the items that it has received."""

    def __init__(self, epoch=None, seq=None, unread=None, unseen=None):
        self.epoch, self.cursor = epoch, seq
        self.unread, self.unseen = unread, unseen
        self.notifications, self.jobs = {}, {}
        self.resets = 0
        self.complete_after = seq  # It has received all changes after this position.
        self.bye = None
        self.paths_to_fetch = []  # of active jobs that were not in the last sync

    def hello(self):
        """Return the first frame of a connection."""
        self.bye = None
        return {"op": "hello", "epoch": self.epoch, "seq": self.cursor}

    def receive(self, frame):
        """Apply a frame of the server and return the frames to send at once."""
        op, has_gap = frame.get("op"), False
        if op in ("sync", "change", "jobs"):
            has_gap = not self._apply(frame)
        elif op == "beat":
            has_gap = frame["seq"] != self.cursor
        elif op == "bye":
            self.bye = frame
        # Without a position, a snapshot has already been requested.
        responses = [{"op": "sync", "seq": self.cursor}] if has_gap and self.cursor is not None else []
        if frame.get("ack") is True:
            responses.append({"op": "ack", "n": frame["n"]})
        return responses

    def apply_item(self, item):
        """Store an item of a frame or of HTTP; return False if it is outdated or of an unknown kind."""
        kinds = {"notification": (self.notifications, "seq"), "job": (self.jobs, "version")}
        items, version_field = kinds.get(item["kind"], ({}, None))
        if version_field is None:
            return False
        stored = items.get(item["id"])
        if stored and item[version_field] < stored[version_field]:
            return False
        items[item["id"]] = item
        return True

    def reconnect_delay(self, code):
        """Return the minimum and maximum ms to wait after a close with this code; None: do not reconnect."""
        if code in FINAL_CODES:
            return None
        if code == 4429:
            return RECONNECT_AFTER_4429_MS
        after = self.bye["after_ms"] if self.bye else 0
        return (after, after * 2) if after else RECONNECT_MS

    def _apply(self, frame):
        if frame["op"] == "jobs":
            return self._apply_items(frame)
        if frame.get("reset"):
            self.notifications.clear()
            self.jobs.clear()
            self.epoch, self.cursor = frame["epoch"], frame["seq"]
            self.unread, self.unseen = frame["unread"], frame["unseen"]
            self.complete_after = self.cursor
            self.resets += 1
            return self._apply_items(frame)
        if self.cursor is None or frame["prev"] > self.cursor:
            return False
        if frame["seq"] >= self.cursor:
            self.unread, self.unseen = frame["unread"], frame["unseen"]
            self.cursor = frame["seq"]
        return self._apply_items(frame)

    def _apply_items(self, frame):
        for item in (*frame.get("items", ()), *frame.get("jobs", ())):
            self.apply_item(item)
        if frame["op"] == "sync" and not frame["more"]:
            listed = {job["id"] for job in frame["jobs"]}
            self.paths_to_fetch += [
                job["links"]["self"]
                for job in self.jobs.values()
                if not job["done"] and job["id"] not in listed
            ]
        return True
