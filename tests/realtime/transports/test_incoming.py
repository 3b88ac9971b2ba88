"""Validation of the frames that clients send, and the reason of each refusal."""

import pytest

from notifications.realtime.transports.incoming import ProtocolViolation, parse_frame


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ('{"op":"ping","x":"' + "a" * 4096 + '"}', "too_big"),
        ('{"op":"ping","x":"' + "ä" * 2048 + '"}', "too_big"),
        ("a" * 4097, "too_big"),
        ("", "bad_json"),
        ("{", "bad_json"),
        ("{}{}", "bad_json"),
        ('{"op":"ping","x":NaN}', "bad_json"),
        ('{"op":"ping","x":-Infinity}', "bad_json"),
        ("[" * 2000 + "]" * 2000, "bad_json"),
        ('{"op":"ping","x":' + "[" * 40 + "]" * 40 + "}", "bad_json"),
        ("[]", "not_object"),
        ('"hello"', "not_object"),
        ("null", "not_object"),
        ("{}", "bad_op"),
        ('{"op":null}', "bad_op"),
        ('{"op":["ping"]}', "bad_op"),
        ('{"op":"Ping"}', "bad_op"),
        ('{"op":"hello"}', "bad_op"),
        ('{"op":"sync"}', "bad_seq"),
        ('{"op":"sync","seq":null}', "bad_seq"),
        ('{"op":"sync","seq":-1}', "bad_seq"),
        ('{"op":"sync","seq":true}', "bad_seq"),
        ('{"op":"sync","seq":1.0}', "bad_seq"),
        ('{"op":"sync","seq":1e3}', "bad_seq"),
        ('{"op":"sync","seq":"1"}', "bad_seq"),
        ('{"op":"sync","seq":9007199254740992}', "bad_seq"),
        ('{"op":"ack"}', "bad_ack"),
        ('{"op":"ack","n":1.0}', "bad_ack"),
    ],
)
def test_invalid_frames(text, reason):
    """Frames are checked in this order: size, JSON, object, op, values."""
    with pytest.raises(ProtocolViolation) as refused:
        parse_frame(text, None, has_hello=True)
    assert refused.value.bye.reason == reason


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ('{"op":"ping"}', "not_hello"),
        ('{"op":"sync","seq":"wrong"}', "not_hello"),
        ('{"op":"what"}', "bad_op"),
        ('{"op":"hello","epoch":1,"seq":-1}', "bad_epoch"),
        ('{"op":"hello","epoch":"e","seq":-1}', "bad_seq"),
        ('{"op":"hello","seq":"1"}', "bad_seq"),
        ('{"op":"hello","seq":false}', "bad_seq"),
    ],
)
def test_first_frame_must_be_hello(text, reason):
    """The first frame must be hello; the op is checked before that, and values after it."""
    with pytest.raises(ProtocolViolation) as refused:
        parse_frame(text, None, has_hello=False)
    assert refused.value.bye.reason == reason


@pytest.mark.parametrize(("data", "reason"), [(b'{"op":"ping"}', "bad_json"), (b"\0" * 4097, "too_big")])
def test_binary_frames_are_refused(data, reason):
    """Binary frames are refused; their size is checked first."""
    with pytest.raises(ProtocolViolation) as refused:
        parse_frame(None, data, has_hello=True)
    assert refused.value.bye.reason == reason


@pytest.mark.parametrize(
    "text",
    [
        '{"op":"hello"}',
        '{"op":"hello","epoch":null,"seq":null}',
        '{"op":"hello","epoch":"","seq":9007199254740991}',
        '{"op":"hello","colour":[[["red"]]]}',
        ' {"op" : "hello", "x": "' + "[" * 100 + '"}',
    ],
)
def test_valid_frames(text):
    """Unknown keys are ignored, and brackets in strings do not count as nesting."""
    assert parse_frame(text, None, has_hello=False)["op"] == "hello"


def test_frame_of_4096_bytes_is_accepted():
    """A frame of exactly the maximum size is accepted."""
    text = '{"op":"ping","x":""}'
    text = text.replace('""', '"' + "a" * (4096 - len(text)) + '"')
    assert len(text) == 4096
    assert parse_frame(text, None, has_hello=True)["op"] == "ping"
