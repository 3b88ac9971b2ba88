"""Users of a site, over HTTP: they are notified, see, read and archive, choose by which channel, and pause."""

import http.client
import itertools
import json
import random
import threading
import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

TOKEN = "t" * 32
#: The categories, and when their notifications go by which channel.
STEPS = {
    "now": [{"email": 0}, {"push": 0}],
    "soon": [{"push": 0.3}, {"email": 1}],
    "thread": [{"email": 1}],
    "digest": [{"email": 0}],
}
MAX_PAUSE_SECONDS = 8


@dataclass(kw_only=True)
class Act:
    """What a user has done.

    ``value``
        The position of what was seen, numbers of notifications, a choice by category and channel, the end of a pause.
    ``ended_at``
        When its response came, in seconds since 1970. None: there was none, so it may have happened or not.
    """

    user: object
    kind: str
    value: object
    started_at: float
    ended_at: float | None = None


class Readers:
    """Threads that do what all users do, each user on one thread.

    They end when ``count`` notifications were created and ``may_end`` is set.
    """

    THREADS, BATCH = 3, 10
    #: Notifications a second, as many as workers can send that are killed all the time.
    RATE = 20

    def __init__(self, site, users, count, seed):
        self.site, self.users, self.count = site, users, count
        self.acts, self.created = [], set()
        self._numbers = itertools.count(1)
        self.may_end, self._stopped, self.problems = threading.Event(), threading.Event(), []
        self._threads = [
            threading.Thread(target=self._run, args=(random.Random(f"{seed} {n}"), users[n :: self.THREADS]))
            for n in range(self.THREADS)
        ]
        for thread in self._threads:
            thread.start()

    @property
    def are_done(self):
        return not any(thread.is_alive() for thread in self._threads)

    def stop(self):
        self._stopped.set()
        for thread in self._threads:
            thread.join()

    def _run(self, rng, users):
        acts = [self._see, self._read, self._archive, self._choose, self._pause]
        try:
            while not self._stopped.is_set() and not self._have_done_enough():
                self._notify(rng, users)
                for act in rng.choices(acts, weights=(3, 3, 2, 3, 3), k=3):
                    act(rng, rng.choice(users))
                time.sleep(rng.random() * self.THREADS * self.BATCH / self.RATE)
            for user in users:  # what stays switched off or paused
                self._change(user, "pause", None, "preferences", {"paused_until": None})
        except Exception as exc:
            self.problems.append(repr(exc))
            raise

    def _have_done_enough(self):
        return len(self.created) >= self.count and self.may_end.is_set()

    def _notify(self, rng, users):
        batch, numbers = [], set()
        for _ in range(rng.randint(1, self.BATCH)):
            category, user, number = rng.choice(list(STEPS)), rng.choice(users), next(self._numbers)
            key = {"key": f"thread-{rng.randint(1, 2)}"} if category == "thread" else {}
            batch.append({"users": user["key"], "title": f"Number {number}.", "category": category, **key})
            numbers.add(number)
        if self._request("POST", "/notify-users/", {}, batch) is not None:
            self.created |= numbers

    def _see(self, rng, user):
        if page := self._list(user):
            self._change(user, "see", page["seq"], "notifications/seen", {"up_to": page["seq"]})

    def _read(self, rng, user):
        self._mark(rng, user, "read")

    def _archive(self, rng, user):
        self._mark(rng, user, "archive")

    def _mark(self, rng, user, verb):
        page = self._list(user)
        # What was created after the position was read has a higher one, and is not marked.
        items = (
            [item for item in page["items"] if (item["raised"] or page["seq"] + 1) <= page["seq"]]
            if page
            else []
        )
        if items:
            chosen = rng.sample(items, min(len(items), rng.randint(1, 3)))
            numbers = [int(item["title"].split()[1].strip(".")) for item in chosen]
            body = {"up_to": page["seq"], "ids": [item["id"] for item in chosen]}
            self._change(user, verb, numbers, f"notifications/{verb}", body)

    def _choose(self, rng, user):
        category, channel = rng.choice(list(STEPS)), rng.choice(["email", "email", "push"])
        choice = rng.choice(["off", "on", "on"] if channel == "push" else ["off", "on", "hourly"])
        body = {"categories": {category: {channel: choice}}}
        self._change(user, "choose", (category, channel, choice), "preferences", body)

    def _pause(self, rng, user):
        until = datetime.now(UTC) + timedelta(seconds=rng.uniform(1, MAX_PAUSE_SECONDS))
        body = {"paused_until": until.isoformat().replace("+00:00", "Z")}
        self._change(user, "pause", until.timestamp(), "preferences", body)

    def _list(self, user):
        return self._request("GET", "/notifications/api/notifications/?limit=10&unread=1", user)

    def _change(self, user, kind, value, path, body):
        act = Act(user=user["key"], kind=kind, value=value, started_at=time.time())
        self.acts.append(act)
        if self._request("POST", f"/notifications/api/{path}/", user, body) is not None:
            act.ended_at = time.time()

    def _request(self, method, path, user, body=None):
        """Return the JSON or text of a response, None if the server has not responded, or had no time."""
        cookies = f"sessionid={user.get('session')}; csrftoken={TOKEN}"
        headers = {"Cookie": cookies, "X-CSRFToken": TOKEN, "Content-Type": "application/json"}
        connection = http.client.HTTPConnection("127.0.0.1", self.site.port, timeout=60)
        try:
            connection.request(method, path, None if body is None else json.dumps(body), headers)
            response = connection.getresponse()
            text = response.read().decode()
        except (OSError, http.client.HTTPException):
            time.sleep(0.2)
            return None
        finally:
            connection.close()
        if response.status == 503:  # the database was busy
            return None
        assert response.status == 200, f"{method} {path}: {response.status} {text[:300]}"
        return json.loads(text) if "json" in response.headers["Content-Type"] else text
