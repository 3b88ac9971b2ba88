"""The hub's threads for questions to the database."""

import asyncio
import threading

from notifications.realtime.pool import Pool


async def test_work_that_comes_after_the_end_is_done():
    """By new threads: those that were idle when the pool was closed have ended."""
    pool = Pool("ending", 2)
    await asyncio.gather(*(pool.run(threading.current_thread) for _ in range(2)))
    ended = pool.close()
    for thread in ended:
        await asyncio.to_thread(thread.join, 10)
    async with asyncio.timeout(10):
        assert await pool.run(threading.current_thread) not in ended
    for thread in pool.close():
        await asyncio.to_thread(thread.join, 10)
