"""Output: text that a job writes while it runs, for readers who follow it.

No model is imported: modules with tasks may be imported before the models are ready.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterable
from inspect import isawaitable

from notifications import validators
from notifications.extension import require
from notifications.worker import current_execution

logger = logging.getLogger("notifications.jobs")

#: The label of the app, by which its part of the worker is found.
LABEL = "notifications_output"


def output(text: str) -> None:
    r"""Append text to the output of the running job, from any function that its task calls.

    ::

        for row in rows:
            output(f"{row.name}: {check(row)}\n")

    ``text``
        A string of any length. NUL, lone surrogates and U+001E are replaced by U+FFFD, and ends of lines by ``\n``.
        Bytes are decoded, and of anything else ``str()`` is written.

    Costs no query: the worker stores the output of all its jobs 10 times a second, or when 8 KiB have come together,
    and the last of it in the transaction that ends the attempt. A job has 1 MiB, all its
    attempts together; the rest is dropped, and its end says so. What is stored stays, whatever the job does next:
    an attempt that writes after another one begins with a line that says which it is.

    Any thread may call it that runs in the context of the job, as those of ``asyncio.to_thread()`` do; lines of several
    threads do not mix if each call has whole ones. Outside a job, and when the attempt is over, it does nothing. Raises
    nothing, but ``ImproperlyConfigured`` inside a job if the app is not installed.
    """
    execution = current_execution()
    if execution is None:
        return
    if not isinstance(text, str):
        text = validators.decoration(text)
    if text and not (execution.is_over or execution.is_stopping):
        if LABEL not in execution.parts:
            require("notifications.contrib.output")
        execution.parts[LABEL].add(execution, text)


async def aoutput_from(texts: AsyncIterable[str]) -> str:
    """Append each string of an async iterator to the output of the running job, and return all of them as one.

    ::

        summary = await aoutput_from(model.stream(prompt))

    For the tokens of a language model, for example. When the job is cancelled, the iterator is closed, which ends the
    request of most clients. Outside a job it only collects the strings. See ``output()``.
    """
    if not isinstance(texts, AsyncIterable):
        raise TypeError(
            f"texts must be an async iterator, not {type(texts).__name__}. Call output() with each of other strings."
        )
    collected = []
    iterator = aiter(texts)
    try:
        async for text in iterator:
            if not isinstance(text, str):
                raise TypeError(f"texts must be strings, not {type(text).__name__}. Decode bytes.")
            output(text)
            collected.append(text)
    finally:
        closing = getattr(iterator, "aclose", lambda: None)()
        if isawaitable(closing):
            await closing
    return "".join(collected)
