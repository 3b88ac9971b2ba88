"""Code that type checkers must refuse: each ignored error that is not one fails the check.

It is checked by ``make types`` and never run.
"""

from __future__ import annotations

from notifications.api import abatch, ajoin, anotify, batch, get_job, join, notify, policy, task
from tests.typing.accepted import check, export


@policy(max_attempt=3)  # type: ignore[arg-type]
def misspelled_option() -> None: ...


@task(owner=1)  # type: ignore[call-overload, untyped-decorator]
def option_of_using() -> None: ...


def refused() -> None:
    export.enqueue("2026")  # type: ignore[arg-type]
    export.enqueue()  # type: ignore[call-arg]
    check.enqueue("/", retry=1)  # type: ignore[call-arg]
    export.using(ownr=1)  # type: ignore[call-arg]
    export.using(url=5)  # type: ignore[arg-type]
    export.using(run_after="60")  # type: ignore[arg-type]
    export.using(priority="high").enqueue(2026)  # type: ignore[arg-type]
    wrong: str = join(export.enqueue(2026))  # type: ignore[assignment]
    print(wrong)
    join(5)  # type: ignore[call-overload]
    get_job(5)  # type: ignore[arg-type]
    notify(1, "Hello", levl="info")  # type: ignore[call-arg]
    notify(1, "Hello", level="danger")  # type: ignore[arg-type]
    notify(1, "Hello", data=[1])  # type: ignore[arg-type]
    with batch(name="Checks"):  # type: ignore[call-arg]
        pass


async def refused_in_async_code() -> None:
    async with abatch(name="Checks"):  # type: ignore[call-arg]
        pass
    async with abatch() as checks:
        pass
    (await ajoin(checks))["lost"]  # type: ignore[typeddict-item]
    await anotify(1, "Hello", levl="info")  # type: ignore[call-arg]
    await anotify(1, "Hello", level="danger")  # type: ignore[arg-type]
