"""Channels: the ways by which notifications reach users who are away, by ``notifications.contrib.deliveries``."""

from __future__ import annotations

from collections.abc import Awaitable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple
from uuid import UUID

from notifications.conf import WrongDeclaration

if TYPE_CHECKING:  # a backend is imported before the models are ready
    from notifications.models import Notification

#: Characters of the name of a channel.
MAX_NAME_LENGTH = 30
#: Characters of an address.
MAX_ADDRESS_LENGTH = 320
#: Steps of a notification, and the longest delay of one.
MAX_STEPS, MAX_DELAY = 5, timedelta(days=30)


@dataclass(frozen=True, kw_only=True, slots=True)
class ChannelMessage:
    """What is sent to one address.

    ``id``
        The same at each attempt: receivers recognize by it a message that was sent twice.
    ``user``
        An instance of the project's model.
    ``address``
        One of those that ``Channel.addresses()`` has returned.
    ``language``
        The language of the newest notification, "" for that of the site.
    ``notifications``
        One; of a digest at most 50, the newest last.
    ``count``
        How many notifications it is about, also those that it does not show.
    ``is_digest``
        The channel ``has_digests``, and this is a message about several notifications, or one that could be.
    ``is_joined``
        It is a digest because they were due within a short time, not because the user has chosen it.
    """

    id: UUID
    user: Any
    address: str
    language: str
    notifications: Sequence[Notification]
    count: int = 1
    is_digest: bool = False
    is_joined: bool = False


class Verdict(NamedTuple):
    """What an error of ``Channel.send()`` says.

    ``may_pass``
        It is tried again, up to ten times in four to six hours.
    ``is_certain``
        This attempt has certainly sent nothing.
    ``is_dead``
        Nothing will ever arrive at the address: no more is sent to it until the user tries it again.
    ``text``
        The answer of the server in one line, for staff. By default the text of the error.
    """

    may_pass: bool = True
    is_certain: bool = False
    is_dead: bool = False
    text: str = ""


class AddressGone(Exception):
    """Raised by ``Channel.send()``: the address is not one of the user any more. Its text is shown to staff."""


class DeliveryStep(NamedTuple):
    """A channel, and how long after its creation a notification that is still open goes by it."""

    channel: str
    delay: timedelta


def read_steps(value: Any, channels: Iterable[str]) -> tuple[DeliveryStep, ...]:
    """Return the steps of a value like ``[{"email": 600}]``, by these channels. Raises ``ValueError``."""
    if not isinstance(value, list | tuple) or len(value) > MAX_STEPS:
        raise ValueError(f"{value!r} is not a list of at most {MAX_STEPS} steps.")
    steps = tuple(_read_step(step, channels) for step in value)
    if len({step.channel for step in steps}) < len(steps):
        raise ValueError(f"{value!r} has a channel twice.")
    return steps


def _read_step(value: Any, channels: Iterable[str]) -> DeliveryStep:
    if not isinstance(value, Mapping) or len(value) != 1:
        raise ValueError(f'The step {value!r} is not a dict like {{"email": 600}}.')
    ((channel, delay),) = value.items()
    if channel not in channels:
        raise ValueError(f"There is no channel {channel!r}. Channels: {', '.join(channels)}.")
    if (
        isinstance(delay, int | float)
        and not isinstance(delay, bool)
        and 0 <= delay <= MAX_DELAY.total_seconds()
    ):
        delay = timedelta(seconds=delay)
    if not isinstance(delay, timedelta) or not timedelta(0) <= delay <= MAX_DELAY:
        raise ValueError(
            f"The delay of {channel} is {delay!r}. It must be a number of seconds, or a timedelta, from 0 to "
            f"{MAX_DELAY.days} days."
        )
    return DeliveryStep(channel, delay)


def read_addresses(found: Iterable[Any]) -> list[str]:
    """Return what a channel has returned as the addresses of a user, each once. Raises ``TypeError`` for others."""
    addresses: list[Any] = [None] if isinstance(found, str) else list(dict.fromkeys(found))
    if not all(isinstance(each, str) and 0 < len(each) <= MAX_ADDRESS_LENGTH for each in addresses):
        raise TypeError(f"Addresses must be a list of texts of 1 to {MAX_ADDRESS_LENGTH} characters.")
    return addresses


class Channel:
    """A way of notifications to users. An app adds it by ``Extension.channels``, which has its name and its class.

    ``label``, ``preference_label``
        What it is called in a timeline, "e-mail", and on the page of preferences, "by e-mail".
    ``has_digests``
        A message may be about several notifications, so users may choose to get them every hour, day or week, and
        those that are due within a short time are joined in one message.
    ``has_many_addresses``
        A user may have several addresses. Each gets a delivery of its own, so that one that hangs holds up no other.
        Not together with ``has_digests``.
    ``server``
        The name of the one server that all messages go to, such as "mail server"; "" if there are several. After three
        time-outs of it in a row, one message a minute is tried until it answers.
    ``reasons``
        Texts in place of the usual ones of ``Delivery.Reason``, by its value.
    """

    label: Any = ""
    preference_label: Any = ""
    has_digests: ClassVar[bool] = False
    has_many_addresses: ClassVar[bool] = False
    server: ClassVar[str] = ""
    reasons: ClassVar[Mapping[str, Any]] = {}

    def __init__(self, name: str) -> None:
        self.name = name

    def addresses(self, user: Any) -> Sequence[str]:
        """Return the addresses of a user, an instance of the project's model; none if they cannot be reached.

        An address has 1 to 320 characters. It is stored and shown to staff: it is no secret. Called by the job that
        sends, outside of a transaction, on one of a few threads that all channels share: it waits for the database at
        most. While it raises, the job is tried again. Also called in requests, for pages that show dead addresses.
        """
        return ()

    def user_fields(self) -> Sequence[str]:
        """Return fields of the user model that ``find_addresses()`` is given the values of. Called as that."""
        return ()

    def find_addresses(self, users: Mapping[Any, Sequence[Any]]) -> Mapping[Any, Sequence[str]]:
        """Return the addresses of many users by their keys, so that those who have none get no job.

        Users who are left out get one, which asks ``addresses()``. Called by a duty, on a thread for code of the
        project, outside of a transaction.

        ``users``
            The values of ``user_fields()`` by the keys of the users.
        """
        return {}

    def send(self, message: ChannelMessage) -> Awaitable[None] | None:
        """Send a message. It raises what ``judge()`` is given, and ``AddressGone``.

        An ``async def`` runs beside others in the event loop of a worker, so it must not block: it awaits all that
        takes time. A plain function, for clients and templates that block, runs on a thread; at most a few do. Both
        have slots of their own beside those of the project's jobs. A plain one has 120 seconds, so its client needs a
        time-out that is shorter; an awaited one has 100, after which there was no answer in time. All channels share
        these slots: ``server`` keeps one whose server is away from filling them.

        A ``ConnectionError`` or ``ValueError`` itself, not one of a subclass, says that the message could not be made,
        now or at all, and that no server was asked.
        """
        raise NotImplementedError

    def record(self, message: ChannelMessage, error: Exception | None) -> None:
        """Store what the channel itself keeps of an attempt, such as when an address was used last.

        Called on a thread, outside of a transaction, before what became of the delivery is stored. It is repeated while
        the database is away. What else it raises is logged, and changes nothing.
        """

    def judge(self, error: Exception) -> Verdict | None:
        """Return what an error of ``send()`` says, None for the usual.

        Usually errors may pass but for ``ValueError`` and ``TypeError``; those of ``notifications.outbound`` and
        statuses of HTTP have their meaning.
        """
        return None

    def describe_addresses(self, user: Any, addresses: Collection[str]) -> Mapping[str, str]:
        """Return the addresses of a user (key) as people read them; those that are left out are shown as they are."""
        return {}

    def find_wrong(self, *, is_used: bool) -> Iterable[WrongDeclaration]:
        """Return what keeps its messages from being sent, for ``manage.py check``.

        ``is_used``
            Whether ``NOTIFICATIONS["DELIVERY"]`` names it.
        """
        return ()


class BrokenChannel(Channel):
    """Stands for a channel that cannot be made: its deliveries are tried again, as often as those of others.

    Any choice of its users stays valid.
    """

    has_digests = True

    def __init__(self, name: str, error: str) -> None:
        super().__init__(name)
        self.error = error

    def addresses(self, user: Any) -> Sequence[str]:
        raise ConnectionError(self.error)

    def find_wrong(self, *, is_used: bool) -> Iterable[WrongDeclaration]:
        hint = "Correct its module, or remove its app from INSTALLED_APPS."
        return [WrongDeclaration("notifications.W036", self.error, hint)]
