"""What a gRPC client does: `CASE ADDRESS CA-FILE [TOKEN]`. It says what it saw, and fails when it should be otherwise."""

import sys
import threading
import time

import grpc

CASE, ADDRESS, CA = sys.argv[1:4]
TOKEN = sys.argv[4] if len(sys.argv) > 4 else None
METADATA = [("authorization", f"Bearer {TOKEN}")] if TOKEN else []


def channel():
    with open(CA, "rb") as file:
        credentials = grpc.ssl_channel_credentials(root_certificates=file.read())
    options = [("grpc.max_receive_message_length", -1), ("grpc.enable_http_proxy", 0)]
    return grpc.secure_channel(ADDRESS, credentials, options)


def failure(call):
    """Status code and details of a call that fails."""
    try:
        answer = call()
        list(answer) if hasattr(answer, "__next__") else None
    except grpc.RpcError as error:
        return error.code(), error.details(), dict(error.trailing_metadata() or ())
    raise AssertionError("it succeeded")


def kinds(calls):
    """All four, and a message before the other side has said all of its own."""
    assert calls.unary(b"hello", metadata=METADATA) == b"hello"
    assert calls.unary(b"", metadata=METADATA) == b""
    assert list(calls.download(b"500", metadata=METADATA)) == [b"%d" % at for at in range(500)]
    assert calls.upload((b"x" * 1000 for _ in range(500)), metadata=METADATA) == b"500 500000"
    assert list(calls.download(b"0", metadata=METADATA)) == []
    go_on = threading.Semaphore(1)

    def requests():
        for number in range(20):
            assert go_on.acquire(timeout=10)
            yield b"word %d" % number

    for number, answer in enumerate(calls.chat(requests(), metadata=METADATA)):
        assert answer == b"WORD %d" % number
        go_on.release()
    assert number == 19


def metadata(calls):
    sent = [*METADATA, ("echo", "a, b"), ("echo-bin", bytes(range(256))), ("x-user-id", "eve"), ("x_user_id", "eve")]
    answer, call = calls.unary.with_call(b"", metadata=sent)
    first, last = dict(call.initial_metadata()), dict(call.trailing_metadata())
    assert (first["first"], first["first-bin"]) == ("1", b"\x00\xff"), first
    assert (last["echo"], last["echo-bin"], last["user"]) == ("a, b", bytes(range(256)), "ann"), last


def statuses(calls):
    """The code, the message in any script, and trailers after messages."""
    for code in grpc.StatusCode:
        if code is grpc.StatusCode.OK:
            continue
        code_seen, details, trailers = failure(lambda: calls.fail(f"{code.value[0]} ünï 100% \n".encode(), metadata=METADATA))
        assert (code_seen, details, trailers["why"]) == (code, "ünï 100% \n", "so"), (code_seen, details, trailers)
    stream = calls.fail(b"5 gone", metadata=METADATA)
    assert next(stream) == b"before"
    nowhere = calls.channel.unary_unary("/test.Calls/Nowhere")
    assert failure(lambda: nowhere(b"", metadata=METADATA))[0] is grpc.StatusCode.UNIMPLEMENTED


def deadlines(calls):
    _, call = calls.unary.with_call(b"", metadata=METADATA, timeout=30)
    left = float(dict(call.trailing_metadata())["left"])
    assert 20 < left <= 30, left
    _, call = calls.unary.with_call(b"", metadata=METADATA)
    assert dict(call.trailing_metadata())["left"] == "none", call.trailing_metadata()
    start = time.monotonic()
    code, _, _ = failure(lambda: calls.wait(b"for the deadline", metadata=METADATA, timeout=0.5))
    assert code is grpc.StatusCode.DEADLINE_EXCEEDED, code
    assert 0.4 < time.monotonic() - start < 3


def cancels(calls):
    stream = calls.wait(b"for the caller", metadata=METADATA)
    assert next(stream) == b"begun"
    stream.cancel()
    try:
        next(stream)
        raise AssertionError("it went on")
    except grpc.RpcError as error:
        assert error.code() is grpc.StatusCode.CANCELLED, error
    assert calls.unary(b"the channel is well", metadata=METADATA) == b"the channel is well"


def many(calls):
    """1000 on one channel, up to 50 at once."""
    running = [calls.unary.future(b"%d" % at, metadata=METADATA, wait_for_ready=True) for at in range(50)]
    for at in range(1000):
        assert running[at].result(timeout=30) == b"%d" % at
        if at + 50 < 1000:
            running.append(calls.unary.future(b"%d" % (at + 50), metadata=METADATA))


def large(calls):
    for size in [1 << 20, 4 << 20, 16 << 20]:
        message = bytes(range(256)) * (size // 256)
        assert calls.unary(message, metadata=METADATA) == message


def refused(calls):
    """Prints what a unary call and a stream are told."""
    for call in [calls.unary, calls.download]:
        code, details, _ = failure(lambda call=call: call(b"1", metadata=METADATA, timeout=20))
        print(code.value[0], details)


class Calls:
    def __init__(self, channel):
        self.channel = channel
        self.unary = channel.unary_unary("/test.Calls/Unary")
        self.download = channel.unary_stream("/test.Calls/Download")
        self.upload = channel.stream_unary("/test.Calls/Upload")
        self.chat = channel.stream_stream("/test.Calls/Chat")
        self.fail = channel.unary_stream("/test.Calls/Fail")
        self.wait = channel.unary_stream("/test.Calls/Wait")


with channel() as opened:
    globals()[CASE](Calls(opened))
