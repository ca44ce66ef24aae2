"""A WSGI application that knows nothing of tokens: it says what it was asked, and answers as it is told to."""

import hashlib
import json
import os
import sys
import time
from urllib.parse import parse_qsl


def application(environ, start_response):
    query = dict(parse_qsl(environ["QUERY_STRING"]))
    # Below /public the same is there for everybody.
    name = environ["PATH_INFO"].removeprefix("/public").strip("/") or "environ"
    status, headers, body = globals()[f"do_{name}"](environ, query)
    start_response(status, headers)
    return body


def plain(text, status="200 OK", headers=()):
    body = text.encode()
    return status, [("Content-Type", "text/plain"), ("Content-Length", str(len(body))), *headers], [body]


def do_environ(environ, query):
    return plain(json.dumps({key: value for key, value in environ.items() if isinstance(value, str)}))


def do_upload(environ, query):
    """SHA-256 and length of the body, read piece by piece."""
    digest, length = hashlib.sha256(), 0
    while piece := environ["wsgi.input"].read(256 * 1024):
        digest.update(piece)
        length += len(piece)
    return plain(f"{digest.hexdigest()} {length}")


def do_stream(environ, query):
    """Lines that tell when they were sent; with `count=forever` until the reader goes away."""

    def pieces():
        number = 0
        try:
            while query["count"] == "forever" or number < int(query["count"]):
                yield f"piece {number} {time.time():.6f}\n".encode()
                number += 1
                time.sleep(float(query["gap"]))
        finally:
            print("stream ended", flush=True)

    return "200 OK", [("Content-Type", "text/plain")], pieces()


def do_slow(environ, query):
    time.sleep(float(query["seconds"]))
    return plain("done")


def do_status(environ, query):
    """An answer with this status and body, such as that of a server whose disk is full."""
    return plain(query.get("body", ""), query["status"], [("X-Of", "the application")])


def do_unchanged(environ, query):
    return "304 Not Modified", [("ETag", '"abc"')], []


def do_redirect(environ, query):
    return plain("", "302 Found", [("Location", "/elsewhere?a=b#c")])


def do_worker(environ, query):
    return plain(str(os.getpid()))


def do_count(environ, query):
    """Takes the number of the request down, to tell afterwards whether one came twice."""
    sys.stdout.write(f"counted {query['n']}\n")
    sys.stdout.flush()
    return plain(f"{query['n']} {environ.get('HTTP_X_USER_ID')}")
