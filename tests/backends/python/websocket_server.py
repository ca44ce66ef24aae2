"""A WebSocket server that knows nothing of tokens. What it does is in the path; PORT is the argument."""

import asyncio
import sys
from urllib.parse import parse_qsl, urlsplit

from websockets.asyncio.server import serve
from websockets.exceptions import ConnectionClosed

# How the last connection of each name was closed by its client.
CLOSED = {}


async def handler(websocket):
    target = urlsplit(websocket.request.path)
    query = dict(parse_qsl(target.query))
    await globals()[target.path.removeprefix("/public").strip("/")](websocket, query)


async def echo(websocket, query):
    try:
        async for message in websocket:
            await websocket.send(message)
    except ConnectionClosed:
        pass
    await websocket.wait_closed()
    received = websocket.protocol.close_rcvd
    if "name" in query:
        CLOSED[query["name"]] = f"{received.code} {received.reason}" if received else "no close frame"


async def closed(websocket, query):
    """How the client of that name said goodbye."""
    while query["name"] not in CLOSED:
        await asyncio.sleep(0.01)
    await websocket.send(CLOSED.pop(query["name"]))


async def close(websocket, query):
    await websocket.close(int(query["code"]), query.get("reason", ""))


async def fragments(websocket, query):
    await websocket.send(["one ", "two ", "three"])


async def pinged(websocket, query):
    """Pings the client, and says that it was there."""
    await (await websocket.ping(b"are you there"))
    await websocket.send("it was there")


async def who(websocket, query):
    users = [value for name, value in websocket.request.headers.raw_items() if name.lower().replace("_", "-") == "x-user-id"]
    await websocket.send(str(users))


async def ticks(websocket, query):
    """Numbers until nobody listens."""
    number = 0
    while True:
        await websocket.send(str(number))
        number += 1
        await asyncio.sleep(0.05)


def chat_or_none(websocket, offered):
    return "chat" if "chat" in offered else None


async def main():
    more = {"select_subprotocol": chat_or_none, "max_size": None, "ping_interval": None}
    async with serve(handler, "127.0.0.1", int(sys.argv[1]), **more):
        await asyncio.get_running_loop().create_future()


asyncio.run(main())
