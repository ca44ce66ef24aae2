"""An ASGI application: events that tell when they were sent, and a body that is sent back while it still comes."""

import asyncio
import time
from urllib.parse import parse_qsl


async def application(scope, receive, send):
    assert scope["type"] == "http", scope["type"]
    query = dict(parse_qsl(scope["query_string"].decode()))
    # Below /public the same is there for everybody.
    await globals()[scope["path"].removeprefix("/public").strip("/")](query, scope, receive, send)


async def begin(send, kind):
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", kind)]})


async def piece(send, data, more=True):
    await send({"type": "http.response.body", "body": data, "more_body": more})


async def events(query, scope, receive, send):
    """Server-sent events; with `count=forever` until the reader goes away."""
    await begin(send, b"text/event-stream")
    gone = asyncio.ensure_future(left(receive))
    number = 0
    while not gone.done() and (query["count"] == "forever" or number < int(query["count"])):
        await piece(send, f"id: {number}\ndata: {time.time():.6f}\n\n".encode())
        number += 1
        await asyncio.sleep(float(query["gap"]))
    if gone.done():
        print("reader left", flush=True)
    else:
        await piece(send, b"", more=False)


async def left(receive):
    while (await receive())["type"] != "http.disconnect":
        pass


async def echo(query, scope, receive, send):
    """Each piece of the body goes back at once."""
    await begin(send, b"application/octet-stream")
    while True:
        message = await receive()
        more = message["type"] == "http.request" and message.get("more_body", False)
        await piece(send, message.get("body", b""), more)
        if not more:
            return


async def user(query, scope, receive, send):
    names = [value.decode() for name, value in scope["headers"] if name == b"x-user-id"]
    await begin(send, b"text/plain")
    await piece(send, f"{names} {scope['scheme']} {scope['client'][0]}".encode(), more=False)
