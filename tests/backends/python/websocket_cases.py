"""The groups 1 to 7, 9 and 10 of the Autobahn test suite for WebSocket servers, as bytes on a socket.

Each case is sent to the server itself and through the gateway. What counts is not what the server makes of it but that it
is the same: the bytes that come back, the close frame among them, up to the end of the connection.

Arguments: SERVER GATEWAY CA-FILE|- TOKEN
"""

import os
import select
import socket
import ssl
import sys

TEXT, BINARY, CLOSE, PING, PONG, MORE = 1, 2, 8, 9, 10, 0


def frame(opcode, payload=b"", fin=True, reserved=0, length=None):
    """A masked frame; `length` is what it says of its payload."""
    payload = payload.encode() if isinstance(payload, str) else payload
    size = len(payload) if length is None else length
    head = bytes([(0x80 if fin else 0) | reserved << 4 | opcode])
    if size < 126:
        head += bytes([0x80 | size])
    elif size < 1 << 16:
        head += bytes([0x80 | 126]) + size.to_bytes(2, "big")
    else:
        head += bytes([0x80 | 127]) + size.to_bytes(8, "big")
    mask = b"\x5a\xc3\x0f\x96"
    # Faster than byte by byte for large messages.
    number = int.from_bytes(payload, "little") ^ int.from_bytes((mask * (len(payload) // 4 + 1))[: len(payload)], "little")
    return head + mask + number.to_bytes(len(payload), "little")


def close(code=1000, reason=b""):
    return frame(CLOSE, code.to_bytes(2, "big") + reason)


# Here everything before is to be back: the server may answer a close before it has sent what it has received.
WAIT = None
MARK = "all is back"


def cut(data, size):
    return [data[at : at + size] for at in range(0, len(data), size)]


def parts(opcode, payload, size):
    """A message in frames of so many bytes."""
    pieces = cut(payload, size)
    return b"".join(
        frame(opcode if at == 0 else MORE, piece, fin=at == len(pieces) - 1) for at, piece in enumerate(pieces)
    )


# A header and a payload without their end, and a payload that would have none.
UNFINISHED = [b"\x81", frame(TEXT, "abcdef")[:-3], frame(BINARY, length=1 << 63)]


def cases():
    """Name and pieces: each piece is written by itself, and `WAIT` is not written."""
    # 1: frames of all lengths, whole and in pieces.
    for size in [0, 1, 125, 126, 127, 128, 65535, 65536]:
        for opcode in [TEXT, BINARY]:
            message = frame(opcode, b"*" * size)
            yield f"1 length {size} {opcode}", [message, WAIT, close()]
            yield f"1 length {size} {opcode} cut", [*cut(message, 997), WAIT, close()]
    # 2: pings and pongs.
    for size in [0, 5, 125]:
        yield f"2 ping {size}", [frame(PING, os.urandom(size)), WAIT, close()]
    yield "2 ping too long", [frame(PING, b"x" * 126)]
    yield "2 ping byte by byte", [*cut(frame(PING, b"\x00\xff\xfe"), 1), WAIT, close()]
    yield "2 pong unasked", [frame(PONG, b"unasked"), frame(PING, b"asked"), WAIT, close()]
    yield "2 ten pings", [b"".join(frame(PING, str(at)) for at in range(10)), WAIT, close()]
    yield "2 ten pings byte by byte", [*cut(b"".join(frame(PING, str(at)) for at in range(10)), 1), WAIT, close()]
    # 3: reserved bits without an extension.
    for reserved in range(1, 8):
        yield f"3 reserved {reserved} text", [frame(TEXT, "first"), WAIT, frame(TEXT, "no", reserved=reserved), frame(PING)]
        yield f"3 reserved {reserved} ping", [frame(PING, "no", reserved=reserved)]
        yield f"3 reserved {reserved} close", [frame(CLOSE, reserved=reserved)]
    # 4: opcodes that do not exist.
    for opcode in [3, 4, 5, 6, 7, 11, 12, 13, 14, 15]:
        yield f"4 opcode {opcode} alone", [frame(opcode)]
        yield f"4 opcode {opcode} after text", [frame(TEXT, "first"), WAIT, frame(opcode, "no"), frame(PING)]
    # 5: fragments.
    yield "5 ping in fragments", [frame(PING, "a", fin=False), frame(MORE, "b")]
    yield "5 pong in fragments", [frame(PONG, "a", fin=False), frame(MORE, "b")]
    yield "5 text in two", [frame(TEXT, "a", fin=False), frame(MORE, "b"), WAIT, close()]
    yield "5 text in two at once", [frame(TEXT, "a", fin=False) + frame(MORE, "b"), WAIT, close()]
    yield "5 text in two byte by byte", [*cut(frame(TEXT, "a", fin=False) + frame(MORE, "b"), 1), WAIT, close()]
    yield "5 ping between", [frame(TEXT, "a", fin=False), frame(PING, "p"), frame(MORE, "b"), WAIT, close()]
    yield "5 many pings between", [
        b"".join(frame(TEXT if at == 0 else MORE, str(at), fin=at == 9) + frame(PING, str(at)) for at in range(10)),
        WAIT,
        close(),
    ]
    yield "5 empty fragments", [frame(TEXT, fin=False), frame(MORE, fin=False), frame(MORE), WAIT, close()]
    yield "5 continuation of nothing", [frame(MORE, "a")]
    yield "5 continuation of nothing, unfinished", [frame(MORE, "a", fin=False), frame(TEXT, "b")]
    yield "5 continuation after the end", [frame(TEXT, "a"), WAIT, frame(MORE, "b")]
    yield "5 text within a message", [frame(TEXT, "a", fin=False), frame(TEXT, "b")]
    yield "5 binary within a message", [frame(TEXT, "a", fin=False), frame(BINARY, "b")]
    yield "5 end without the end", [frame(TEXT, "a", fin=False), close()]
    # 6: UTF-8.
    good = ["", "κόσμε", "\u0000", "\u007f", "\u0080", "\u07ff", "\u0800", "\ud7ff", "\ue000", "\ufffd", "\uffff", "\U00010000", "\U0010ffff"]
    for text in good:
        data = text.encode()
        yield f"6 good {data.hex()}", [frame(TEXT, data), WAIT, close()]
        yield f"6 good {data.hex()} in bytes", [parts(TEXT, data, 1) if data else frame(TEXT), WAIT, close()]
    bad = [
        "ff", "80", "bf", "8080", "c0", "c080", "c1bf", "c2", "e0", "e080", "e08080", "e09fbf", "eda080", "edbfbf", "ee80",
        "f0808080", "f08fbfbf", "f4908080", "f880808080", "fc8080808080", "fe", "cebae1bdb9cf83cebcceb5eda080656469746564",
    ]  # fmt: skip
    for text in map(bytes.fromhex, bad):
        yield f"6 bad {text.hex()}", [frame(TEXT, text), WAIT, close()]
        yield f"6 bad {text.hex()} in bytes", [parts(TEXT, text, 1), WAIT, close()]
        yield f"6 bad {text.hex()} as binary", [frame(BINARY, text), WAIT, close()]
    # 7: the end.
    yield "7 close", [frame(TEXT, "a"), WAIT, close()]
    yield "7 close twice", [close() + close()]
    yield "7 ping after close", [close() + frame(PING, "p")]
    yield "7 text after close", [close() + frame(TEXT, "late")]
    yield "7 message unfinished by the close", [frame(TEXT, "a", fin=False) + close() + frame(MORE, "b")]
    yield "7 much before the close", [frame(TEXT, "*" * 262144), WAIT, close() + frame(PING)]
    yield "7 empty close", [frame(CLOSE)]
    yield "7 close of one byte", [frame(CLOSE, b"\x03")]
    yield "7 close with a reason", [close(1000, "bye ü".encode())]
    yield "7 close with the longest reason", [close(1000, b"x" * 123)]
    yield "7 close too long", [close(1000, b"x" * 124)]
    yield "7 close with a bad reason", [close(1000, b"\xce\xba\xed\xa0\x80")]
    for code in [1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014, 3000, 3999, 4000, 4999]:
        yield f"7 code {code}", [close(code, b"said")]
    for code in [0, 1, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65535]:
        yield f"7 bad code {code}", [close(code, b"said")]
    yield "7 gone without a word", [frame(TEXT, "a"), WAIT]
    # What the standard forbids of the frame itself.
    yield "7 unmasked", [b"\x81\x01a"]
    yield "7 length beyond all bounds", [UNFINISHED[2]]
    yield "7 header cut off", [UNFINISHED[0]]
    yield "7 payload cut off", [UNFINISHED[1]]
    # 9: large messages.
    for size in [1 << 16, 1 << 18, 1 << 20, 1 << 22]:
        for opcode in [TEXT, BINARY]:
            payload = b"*" * size
            yield f"9 {size} {opcode}", [frame(opcode, payload), WAIT, close()]
            yield f"9 {size} {opcode} in pieces", [*cut(frame(opcode, payload), 1 << 14), WAIT, close()]
            yield f"9 {size} {opcode} in fragments", [parts(opcode, payload, 1 << 12), WAIT, close()]
    yield "9 many small ones", [b"".join(frame(TEXT, f"{at:04}") for at in range(2000)), WAIT, close()]
    # 10: fragments of the size of a packet.
    yield "10 fragments of 1300", [parts(TEXT, b"*" * 65536, 1300), WAIT, close()]


HANDSHAKE = (
    "GET /echo HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
)


class Client:
    """A connection that reads while it writes: who only writes to an echo has both sides waiting."""

    def __init__(self, name, address, context, token):
        host, port = address.rsplit(":", 1)
        stream = socket.create_connection((host, int(port)), timeout=20)
        stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.stream = context.wrap_socket(stream, server_hostname="localhost") if context else stream
        self.stream.setblocking(False)
        self.name, self.received, self.ended = name, b"", False
        authorization = f"Authorization: Bearer {token}\r\n" if token else ""
        self.write(f"{HANDSHAKE}{authorization}\r\n".encode())
        self.read_until(lambda: b"\r\n\r\n" in self.received)
        head, self.received = self.received.split(b"\r\n\r\n", 1)
        assert head.startswith(b"HTTP/1.1 101 ") and b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo=" in head, head

    def step(self, writing):
        """Reads what is there, or waits until something is or, with `writing`, may be written."""
        try:
            piece = self.stream.recv(1 << 16)
            self.received += piece
            self.ended |= not piece
        except (BlockingIOError, ssl.SSLWantReadError):
            ready = select.select([self.stream], [self.stream] if writing else [], [], 20)
            assert any(ready), f"{self.name}: nothing came for 20 s after {self.received[-100:]!r}"
        except ConnectionError:
            self.ended = True

    def write(self, piece):
        left = memoryview(piece)
        while left and not self.ended:
            try:
                left = left[self.stream.send(left[: 1 << 14]) :]
            except (BlockingIOError, ssl.SSLWantWriteError):
                self.step(True)
            except ConnectionError:
                # The server is through with it, and does not read what still comes. What it said may still be read.
                left = b""

    def read_until(self, done):
        while not self.ended and not done():
            self.step(False)


def outcome(name, address, context, token, pieces):
    """All bytes that come back, up to the end of the connection."""
    client = Client(name, address, context, token)
    for piece in pieces:
        if piece is WAIT:
            client.write(frame(TEXT, MARK))
            client.read_until(lambda: client.received.endswith(MARK.encode()))
        else:
            client.write(piece)
    if any(pieces[-1] is last for last in [WAIT, *UNFINISHED]):
        # The server waits for more: it is told that none comes. TLS has no half that could be closed alone here.
        if context:
            client.stream.close()
            return client.received
        client.stream.shutdown(socket.SHUT_WR)
    client.read_until(lambda: False)
    client.stream.close()
    return client.received


def main():
    server, gateway, ca, token = sys.argv[1:]
    context = None if ca == "-" else ssl.create_default_context(cafile=ca)
    count, bad = 0, []
    for name, pieces in cases():
        direct = outcome(name, server, None, None, pieces)
        through = outcome(name, gateway, context, token, pieces)
        count += 1
        if context and pieces[-1] in UNFINISHED:
            # What the server says to the end of its connection is told to nobody.
            continue
        if direct != through:
            bad.append(f"{name}: {direct[:60]!r} ({len(direct)}) without, {through[:60]!r} ({len(through)}) with the gateway")
    if bad:
        sys.exit("\n".join(bad))
    print(f"{count} cases end the same")


main()
