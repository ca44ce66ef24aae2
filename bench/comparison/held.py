"""What a proxy keeps for a connection that nobody uses: resident memory over many that are held open."""

import socket

from .machine import Fault, say
from .probe import anyone

CONNECTIONS = 2000

# Held before, so that what a process allocates once is not counted.
FIRST = 200

# So many from one address: Portcullis lets 1,024 in by default.
PER_ADDRESS = 500


def connections(contestants, rounds):
    """Samples of each contestant: bytes a connection."""
    samples = {contestant.name: [] for contestant in contestants}
    for number in range(rounds):
        for contestant in contestants:
            # What earlier connections left would be used again.
            contestant.process.restart()
            held = [_hold(contestant, index) for index in range(FIRST)]
            before = contestant.process.memory()
            held += [_hold(contestant, index) for index in range(FIRST, FIRST + CONNECTIONS)]
            grown = contestant.process.memory() - before
            for connection in held:
                connection.close()
            samples[contestant.name].append({"bytes": grown / CONNECTIONS})
            say(f"  {number + 1}/{rounds} {contestant.name:32} {grown / CONNECTIONS / 1024:6.1f} KiB a connection")
    return samples


def _hold(contestant, index):
    """A TLS connection over which one request was answered."""
    source = (f"127.0.1.{1 + index // PER_ADDRESS}", 0)
    plain = socket.create_connection(("127.0.0.1", contestant.tls), 10, source)
    # The request follows the end of the handshake at once, instead of waiting for its acknowledgement.
    plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    connection = anyone().wrap_socket(plain)
    sessions = contestant.gateway.sessions
    token = sessions[index % len(sessions)].token
    connection.sendall(
        f"GET {contestant.path} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {token}\r\n\r\n".encode()
    )
    answer = connection.recv(65536)
    if not answer.startswith(b"HTTP/1.1 200"):
        raise Fault(f"{contestant.name}: answered {answer[:200]!r}")
    return connection
