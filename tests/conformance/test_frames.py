"""Malformed client frames, valid but unusual ones, and handshakes: docs/reference/protocol/frames.json."""

import asyncio
import json

import pytest

from tests.conformance import vectors
from tests.conformance.rawsocket import PING, TEXT, Refused

FRAMES = vectors.load("frames.json")
AT_ONCE = 8
PATIENCE = 40


def text_of(parts):
    """A text from its parts, of which some are [text, how often]."""
    return "".join(part if isinstance(part, str) else part[0] * part[1] for part in parts)


async def hear(socket):
    return await asyncio.wait_for(socket.receive(), PATIENCE)


async def hear_frame(socket):
    text = await hear(socket)
    assert isinstance(text, str), f"closed with {text}"
    return json.loads(text)


async def greet(socket):
    socket.send(b'{"op":"hello"}')
    assert [(await hear_frame(socket))["op"] for _ in range(2)] == ["welcome", "sync"]


def say(socket, told):
    """Send what a vector says."""
    if "hex" in told:
        socket.send(bytes.fromhex(text_of(told["hex"])), 0x2)
    elif "parts" in told:
        parts = [text_of(part).encode() for part in told["parts"]]
        if "between" in told:
            socket.send(parts[0], TEXT, final=False)
            socket.send(b"", PING)
            socket.send(parts[1], 0)
        else:
            socket.send_parts(parts)
    elif "parts_hex" in told:
        socket.send_parts([bytes.fromhex(part) for part in told["parts_hex"]])
    else:
        socket.send(text_of(told["text"]).encode())


async def refuse(served, session, told):
    """The bye names code and reason, the close has the code, and nothing comes in between."""
    socket = await served.open(session)
    if told.get("greeted", True):
        await greet(socket)
    say(socket, told)
    bye = await hear_frame(socket)
    expected = {"op": "bye", "code": told["code"], "reason": told["reason"], "reconnect": False}
    assert {key: bye[key] for key in expected} == expected, bye
    assert sorted(bye) == ["after_ms", "code", "detail", "op", "reason", "reconnect"]
    assert bye["after_ms"] == 0
    assert await hear(socket) == told["code"]


async def accept(served, session, told):
    """It is answered with this op (None: not at all), and the connection goes on."""
    socket = await served.open(session)
    if told.get("greeted", True):
        await greet(socket)
    say(socket, told)
    if told["op"]:
        assert (await hear_frame(socket))["op"] == told["op"]
    socket.send(b'{"op":"ping"}')
    while (frame := await hear_frame(socket))["op"] == "sync":
        pass
    assert frame["op"] == "beat", frame
    socket.close()


async def break_rfc(served, session, told):
    """What breaks RFC 6455 ends the connection in the server's own way, and no frame of ours is answered to it."""
    socket = await served.open(session)
    await greet(socket)
    for frame in told["frames"]:
        hex = frame["hex"]
        payload = bytes.fromhex(hex if isinstance(hex, str) else hex[0] * hex[1])
        how = {key: frame[key] for key in ("final", "masked", "reserved") if key in frame}
        socket.send(payload, frame["opcode"], **how)
    answer = await hear(socket)
    if isinstance(answer, str):
        assert json.loads(answer)["code"] == told.get("bye"), answer
        answer = await hear(socket)
    assert isinstance(answer, int), answer


async def shake_hands(served, session, told):
    """101 and the subprotocol, or the status of the refusal."""
    origin = served.url
    names = {"$origin": origin, "$https_origin": origin.replace("http", "https"), "$ORIGIN": origin.upper()}

    def filled_in(value):
        for name, text in names.items():
            value = value.replace(name, text)
        return value

    headers = [(name, filled_in(value)) for name, value in told["headers"]]
    try:
        socket = await served.open(session, headers)
    except Refused as refused:
        assert refused.status in told["status"]
        return
    assert told["status"] == [101]
    chosen = [line for line in socket.headers.splitlines() if line.startswith("sec-websocket-protocol")]
    assert [line.split(": ")[1] for line in chosen] == ([told["subprotocol"]] if told["subprotocol"] else [])
    await greet(socket)
    socket.close()


KINDS = {"refused": refuse, "accepted": accept, "broken": break_rfc, "handshakes": shake_hands}


def test_there_are_enough_of_them():
    """At least 60 kinds of bad frames, each with a name of its own."""
    for kind in KINDS:
        names = vectors.names(FRAMES[kind])
        assert len(set(names)) == len(names)
    assert len(FRAMES["refused"]) >= 60


@pytest.mark.timeout(120)
async def test_bad_frames_beside_a_healthy_session(served):
    """Each gets its answer; a healthy session next to them hears what is meant for it, and nothing else."""
    healthy_one, *people = await served.call("people", count=1 + AT_ONCE)
    healthy = await served.open(healthy_one["sessions"][0])
    await greet(healthy)
    wrong, left = [], [(kind, told) for kind in KINDS for told in FRAMES[kind]]

    async def work(person):
        while left:
            kind, told = left.pop(0)
            try:
                await KINDS[kind](served, person["sessions"][0], told)
            except (AssertionError, TimeoutError, ValueError, KeyError, Refused) as error:
                wrong.append(f"{kind}: {told['name']}: {error!r}"[:400])

    await asyncio.gather(*map(work, people))
    assert not wrong, f"{len(wrong)}\n" + "\n".join(wrong)

    await served.call("tell", user=healthy_one["user"], title="Still there")
    frames = []
    while not frames or frames[-1]["op"] == "beat":
        frames.append(await hear_frame(healthy))
    assert frames[-1]["op"] == "change"
    assert [item["title"] for item in frames[-1]["items"]] == ["Still there"]
    healthy.close()


async def test_a_client_that_answers_the_close_late_is_waited_for(served):
    """On a slow way its own close comes after seconds; a connection that is reset before may take the code with it."""
    (person,) = await served.call("people", count=1)
    socket = await served.open(person["sessions"][0])
    socket.send(b"{")
    await asyncio.sleep(2.5)  # it is receive() that answers
    assert not socket.transport.is_closing()
    assert json.loads(await socket.receive())["reason"] == "bad_json"
    assert await socket.receive() == 4400
