"""What a WebSocket client does: `CASE URL CA-FILE [TOKEN]`. It says what it saw, and fails when it should be otherwise."""

import asyncio
import contextlib
import ssl
import sys

from websockets.asyncio.client import connect as websockets_connect
from websockets.exceptions import ConnectionClosed, InvalidStatus


def connect(path, token=None, **more):
    headers = dict(more.pop("headers", {}))
    if token or TOKEN:
        headers["Authorization"] = f"Bearer {token or TOKEN}"
    context = ssl.create_default_context(cafile=CA) if URL.startswith("wss") else None
    more = {"max_size": None, "ping_interval": None, "proxy": None, "ssl": context} | more
    return websockets_connect(URL + path, additional_headers=headers, **more)


async def echo():
    for compression in ["deflate", None]:
        async with connect("/echo", compression=compression) as websocket:
            names = [one.name for one in websocket.protocol.extensions]
            assert names == (["permessage-deflate"] if compression else []), names
            # The lengths around which the header of a frame changes, and a mebibyte.
            for length in [0, 1, 125, 126, 127, 65535, 65536, 1 << 20]:
                for message in ["ü" * (length // 2) + "a" * (length % 2), bytes(range(256)) * (length // 256) + b"b" * (length % 256)]:
                    await websocket.send(message)
                    assert await websocket.recv() == message, length


async def fragmented():
    async with connect("/echo") as websocket:
        await websocket.send(["a", "b" * 70000, "", "c"])
        assert await websocket.recv() == "a" + "b" * 70000 + "c"
    async with connect("/fragments", compression=None) as websocket:
        # The server ends a message of which it does not know the last part with an empty one.
        assert [part async for part in websocket.recv_streaming()] == ["one ", "two ", "three", ""]


async def pings():
    async with connect("/echo") as websocket:
        for payload in [b"", b"here", b"x" * 125]:
            assert await (await websocket.ping(payload)) < 5
        # A pong that nobody asked for is no answer to anything.
        await websocket.pong(b"unasked")
        await websocket.send("still there")
        assert await websocket.recv() == "still there"
    async with connect("/pinged") as websocket:
        assert await websocket.recv() == "it was there"


async def closes():
    for code, reason in [(1000, ""), (1000, "bye"), (1001, "going"), (1011, "ü" * 61), (3000, "x" * 123), (4999, "app")]:
        async with connect(f"/echo?name={code}") as websocket:
            await websocket.close(code, reason)
        async with connect(f"/closed?name={code}") as websocket:
            assert await websocket.recv() == f"{code} {reason}"
        async with connect(f"/close?code={code}&reason={reason}") as websocket:
            with contextlib.suppress(ConnectionClosed):
                await websocket.recv()
            received = websocket.protocol.close_rcvd
            assert (received.code, received.reason) == (code, reason), received
    async with connect("/echo?name=gone") as websocket:
        websocket.transport.abort()
    async with connect("/closed?name=gone") as websocket:
        assert await websocket.recv() == "no close frame"


async def subprotocols():
    for offered, chosen in [(["other", "chat"], "chat"), (["other"], None), (None, None)]:
        async with connect("/echo", subprotocols=offered) as websocket:
            assert websocket.subprotocol == chosen, (offered, websocket.subprotocol)


async def many():
    """200 at the same time."""
    everybody_is_there = asyncio.Barrier(200)

    async def one(number):
        async with connect("/echo", open_timeout=60) as websocket:
            await everybody_is_there.wait()
            for count in range(5):
                await websocket.send(f"{number} {count}")
                assert await websocket.recv() == f"{number} {count}"

    await asyncio.gather(*(one(number) for number in range(200)))


async def identity():
    forged = {"X-User-Id": "eve", "X_User_Id": "eve"}
    async with connect("/who", headers=forged) as websocket:
        assert await websocket.recv() == "['ann']"
    async with connect("/public/who", headers=forged) as websocket:
        assert await websocket.recv() == "[]"


async def refused():
    """Without a token; with another one the reason is another."""
    for token, reason in [(None, b'"missing_token"'), ("nonsense", b'"malformed_token"')]:
        try:
            async with connect("/echo", token):
                raise AssertionError("it was let in")
        except InvalidStatus as answer:
            response = answer.response
            assert response.status_code == 401 and reason in response.body, response
            assert response.headers["WWW-Authenticate"].startswith("Bearer"), response.headers


async def listens():
    """Says how it was closed by the other side."""
    async with connect("/ticks") as websocket:
        print("open", flush=True)
        with contextlib.suppress(ConnectionClosed):
            async for _ in websocket:
                pass
        received = websocket.protocol.close_rcvd
        print(f"closed {received.code} {received.reason}" if received else "cut", flush=True)


CASE, URL, CA = sys.argv[1:4]
TOKEN = sys.argv[4] if len(sys.argv) > 4 else None
asyncio.run(globals()[CASE]())
