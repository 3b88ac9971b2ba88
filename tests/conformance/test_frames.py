"""Malformed frames, valid but unusual ones, and handshakes: docs/reference/protocol/frames.json."""

import asyncio
import json

import pytest

from tests.conformance import vectors
from tests.conformance.rawsocket import PING, TEXT, Refused

pytestmark = pytest.mark.nightly_names("*[daphne]")

FRAMES = vectors.load("frames.json")
CONCURRENT_CONNECTIONS = 8
FRAME_TIMEOUT_SECONDS = 40


def build_text(parts):
    """Join strings, and [string, count] pairs repeated."""
    return "".join(part if isinstance(part, str) else part[0] * part[1] for part in parts)


async def receive(socket):
    return await asyncio.wait_for(socket.receive(), FRAME_TIMEOUT_SECONDS)


async def receive_frame(socket):
    text = await receive(socket)
    assert isinstance(text, str), f"closed with {text}"
    return json.loads(text)


async def send_hello(socket):
    socket.send(b'{"op":"hello"}')
    assert [(await receive_frame(socket))["op"] for _ in range(2)] == ["welcome", "sync"]


def send_vector(socket, vector):
    """Send the message of a vector."""
    if "hex" in vector:
        socket.send(bytes.fromhex(build_text(vector["hex"])), 0x2)
    elif "parts" in vector:
        parts = [build_text(part).encode() for part in vector["parts"]]
        if "between" in vector:
            socket.send(parts[0], TEXT, final=False)
            socket.send(b"", PING)
            socket.send(parts[1], 0)
        else:
            socket.send_parts(parts)
    elif "parts_hex" in vector:
        socket.send_parts([bytes.fromhex(part) for part in vector["parts_hex"]])
    else:
        socket.send(build_text(vector["text"]).encode())


async def check_refused(served, session, vector):
    """The bye frame has code and reason, the close has the code, and no frame comes between."""
    socket = await served.open(session)
    if vector.get("greeted", True):
        await send_hello(socket)
    send_vector(socket, vector)
    bye = await receive_frame(socket)
    expected = {"op": "bye", "code": vector["code"], "reason": vector["reason"], "reconnect": False}
    assert {key: bye[key] for key in expected} == expected, bye
    assert sorted(bye) == ["after_ms", "code", "detail", "op", "reason", "reconnect"]
    assert bye["after_ms"] == 0
    assert await receive(socket) == vector["code"]


async def check_accepted(served, session, vector):
    """The response has the op of the vector (None: there is no response), and the connection stays open."""
    socket = await served.open(session)
    if vector.get("greeted", True):
        await send_hello(socket)
    send_vector(socket, vector)
    if vector["op"]:
        assert (await receive_frame(socket))["op"] == vector["op"]
    socket.send(b'{"op":"ping"}')
    while (frame := await receive_frame(socket))["op"] == "sync":
        pass
    assert frame["op"] == "beat", frame
    socket.close()


async def check_broken(served, session, vector):
    """A violation of RFC 6455 closes the connection; the server may send the bye of the vector before."""
    socket = await served.open(session)
    await send_hello(socket)
    for frame in vector["frames"]:
        hex = frame["hex"]
        payload = bytes.fromhex(hex if isinstance(hex, str) else hex[0] * hex[1])
        options = {key: frame[key] for key in ("final", "masked", "reserved") if key in frame}
        socket.send(payload, frame["opcode"], **options)
    reply = await receive(socket)
    if isinstance(reply, str):
        assert json.loads(reply)["code"] == vector.get("bye"), reply
        reply = await receive(socket)
    assert isinstance(reply, int), reply


async def check_handshake(served, session, vector):
    """The handshake gets 101 and the expected subprotocol, or one of the expected error statuses."""
    origin = served.url
    names = {"$origin": origin, "$https_origin": origin.replace("http", "https"), "$ORIGIN": origin.upper()}

    def substitute(value):
        for name, text in names.items():
            value = value.replace(name, text)
        return value

    headers = [(name, substitute(value)) for name, value in vector["headers"]]
    try:
        socket = await served.open(session, headers)
    except Refused as refused:
        assert refused.status in vector["status"]
        return
    assert vector["status"] == [101]
    chosen = [line for line in socket.headers.splitlines() if line.startswith("sec-websocket-protocol")]
    assert [line.split(": ")[1] for line in chosen] == (
        [vector["subprotocol"]] if vector["subprotocol"] else []
    )
    await send_hello(socket)
    socket.close()


CHECKS = {
    "refused": check_refused,
    "accepted": check_accepted,
    "broken": check_broken,
    "handshakes": check_handshake,
}


def test_number_of_vectors():
    """There are at least 60 vectors of refused frames, and names are unique."""
    for kind in CHECKS:
        names = vectors.names(FRAMES[kind])
        assert len(set(names)) == len(names)
    assert len(FRAMES["refused"]) >= 60


@pytest.mark.timeout(120)
async def test_bad_frames_do_not_affect_others(served):
    """Each vector passes, and another connection meanwhile receives only its own notification."""
    bystander, *users = await served.call("create_users", count=1 + CONCURRENT_CONNECTIONS)
    bystander_socket = await served.open(bystander["sessions"][0])
    await send_hello(bystander_socket)
    failures, remaining = [], [(kind, vector) for kind in CHECKS for vector in FRAMES[kind]]

    async def run_vectors(user):
        while remaining:
            kind, vector = remaining.pop(0)
            try:
                await CHECKS[kind](served, user["sessions"][0], vector)
            except (AssertionError, TimeoutError, ValueError, KeyError, Refused) as error:
                failures.append(f"{kind}: {vector['name']}: {error!r}"[:400])

    await asyncio.gather(*map(run_vectors, users))
    assert not failures, f"{len(failures)}\n" + "\n".join(failures)

    await served.call("notify_user", user=bystander["user"], title="Still there")
    frames = []
    while not frames or frames[-1]["op"] == "beat":
        frames.append(await receive_frame(bystander_socket))
    assert frames[-1]["op"] == "change"
    assert [item["title"] for item in frames[-1]["items"]] == ["Still there"]
    bystander_socket.close()


@pytest.mark.nightly
async def test_slow_close(served):
    """The server waits for a slow client's close: closing earlier could send a reset, which can discard the code."""
    (user,) = await served.call("create_users", count=1)
    socket = await served.open(user["sessions"][0])
    socket.send(b"{")
    await asyncio.sleep(2.5)  # receive() would answer the close.
    assert not socket.transport.is_closing()
    assert json.loads(await socket.receive())["reason"] == "bad_json"
    assert await socket.receive() == 4400
