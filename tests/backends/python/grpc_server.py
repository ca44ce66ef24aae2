"""A gRPC server whose messages are bytes as they are: no schema, only calls. PORT is the argument."""

import sys
import time
from concurrent import futures

import grpc


def unary(request, context):
    """Sends the message back, and what it knows of the caller and of the deadline."""
    metadata = dict(context.invocation_metadata())
    left = context.time_remaining()
    context.send_initial_metadata([("first", "1"), ("first-bin", b"\x00\xff")])
    context.set_trailing_metadata([
        ("user", metadata.get("x-user-id", "nobody")),
        ("echo", metadata.get("echo", "")),
        ("echo-bin", metadata.get("echo-bin", b"")),
        # Without a deadline there is an endless time left.
        ("left", "none" if left is None or left > 1e6 else f"{left:.3f}"),
    ])
    return request


def download(request, context):
    for number in range(int(request)):
        yield b"%d" % number


def upload(requests, context):
    count = size = 0
    for request in requests:
        count, size = count + 1, size + len(request)
    return b"%d %d" % (count, size)


def chat(requests, context):
    """Each message goes back before the next one comes."""
    for request in requests:
        yield request.upper()


def fail(request, context):
    """Fails with the code and message of the request, of which there is a message before."""
    code, message = request.decode().split(" ", 1)
    yield b"before"
    context.set_trailing_metadata([("why", "so")])
    context.abort(next(one for one in grpc.StatusCode if one.value[0] == int(code)), message)


def wait(request, context):
    """Until the caller is gone; it says so."""
    context.add_callback(lambda: print(f"ended {request.decode()}", flush=True))
    yield b"begun"
    while context.is_active():
        time.sleep(0.01)


KINDS = {
    "Unary": grpc.unary_unary_rpc_method_handler(unary),
    "Download": grpc.unary_stream_rpc_method_handler(download),
    "Upload": grpc.stream_unary_rpc_method_handler(upload),
    "Chat": grpc.stream_stream_rpc_method_handler(chat),
    "Fail": grpc.unary_stream_rpc_method_handler(fail),
    "Wait": grpc.unary_stream_rpc_method_handler(wait),
}

server = grpc.server(futures.ThreadPoolExecutor(32), options=[("grpc.max_receive_message_length", -1)])
server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler("test.Calls", KINDS)])
assert server.add_insecure_port(f"127.0.0.1:{sys.argv[1]}")
server.start()
server.wait_for_termination()
