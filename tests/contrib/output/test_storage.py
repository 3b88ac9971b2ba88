"""What a buffer keeps of what a job writes."""

from notifications.contrib.output.storage import CUT, OutputBuffer
from tests.contrib.output.test_output import set_max_output  # noqa: F401 (a fixture)


def test_a_buffer_is_bounded(set_max_output):  # noqa: F811
    set_max_output(10)
    buffer = OutputBuffer()
    for _ in range(5):
        buffer.append("x" * 1_000)
    assert len(buffer) == 10 + len(CUT)
