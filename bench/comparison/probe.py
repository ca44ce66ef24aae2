"""Replies looked at while a round goes on: that a good token passes, and that a forged and an ended one do not."""

import functools
import itertools
import json
import socket
import ssl
import subprocess
import threading

from .machine import Fault, find
from .place import BODY

# Between two questions: many in a round, and nothing beside the thousands that are measured.
PAUSE = 0.1

# Which of the questions is about a session that ends: late enough that the load has begun. Once a round: an end makes
# every remembered token be looked up again.
ENDING = 2


class Probe(threading.Thread):
    """Asks through one contestant until it is stopped. What was wrong is told by `finish`."""

    def __init__(self, contestant, tls, http2=False):
        super().__init__(daemon=True)
        self._contestant, self._tls, self._http2 = contestant, tls, http2
        self._ended = threading.Event()
        self._fault, self._asked = None, 0
        self._connection = None
        # Bytes of a good reply, header included.
        self.size = None
        self.refused = {"forged": 0, "ended": 0}

    def run(self):
        """Asks in turn for everything that must hold."""
        try:
            for number in itertools.count(1):
                if self._ended.wait(PAUSE):
                    break
                self._question()
                if number == ENDING and self._contestant.revoke:
                    self._ending()
        except (Fault, OSError, ValueError, subprocess.SubprocessError) as fault:
            self._fault = fault
        finally:
            if self._connection:
                self._connection.close()

    def finish(self):
        """Stops; how many requests were asked.

        Raises Fault where a reply was not what it must be, or nothing was asked.
        """
        self._ended.set()
        self.join()
        name = self._contestant.name
        if self._fault:
            raise Fault(f"{name}: {self._fault}") from self._fault
        if self._contestant.checks and not self.refused["forged"]:
            raise Fault(f"{name}: no forged token was tried")
        if self._contestant.revoke and not self.refused["ended"]:
            raise Fault(f"{name}: no ended session was tried")
        return self._asked

    def _ending(self):
        """A session that works, is ended while the load goes on, and is refused on its next request."""
        session = self._contestant.gateway.admin.sign_in("user-999999")
        self._expect(session.token, 200)
        self._contestant.revoke(session)
        self._expect(session.token, 401)
        self.refused["ended"] += 1

    def _question(self):
        """A good token, what the upstream is told of it, and a forgery of it."""
        gateway, checks = self._contestant.gateway, self._contestant.checks
        session = gateway.sessions[self._asked % len(gateway.sessions)]
        self._expect(session.token, 200, BODY)
        if not checks:
            return
        told = json.loads(self._expect(session.token, 200, path="/echo"))
        if told != {"user": session.user, "session": session.id, "token": ""}:
            raise Fault(f"the upstream was told {told} for the token of {session.user}")
        self._expect(session.forged(), 401)
        self.refused["forged"] += 1

    def _expect(self, token, status, body=None, path=None):
        asked = self._over_http2 if self._http2 else self._over_http1
        got, reply = asked(path or self._contestant.path, token)
        self._asked += 1
        if got != status or (body is not None and reply != body):
            raise Fault(f"{path or self._contestant.path} was answered {got} {reply[:200]!r}, expected {status}")
        return reply

    def _over_http1(self, path, token):
        if not self._connection:
            self._connection = socket.create_connection(("127.0.0.1", self._contestant.port(self._tls)), 10)
            if self._tls:
                self._connection = anyone().wrap_socket(self._connection)
        head = f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {token}\r\n\r\n"
        self._connection.sendall(head.encode())
        read = b""
        while b"\r\n\r\n" not in read:
            read += self._more()
        head, _, body = read.partition(b"\r\n\r\n")
        lines = head.decode("latin-1").lower().split("\r\n")
        length = next((int(line[15:]) for line in lines if line.startswith("content-length:")), None)
        if length is None:
            raise Fault(f"a reply without a length: {lines}")
        while len(body) < length:
            body += self._more()
        if lines[0].split()[1] == "200" and path == self._contestant.path:
            self.size = len(head) + 4 + length
        if "connection: close" in lines:
            self._connection.close()
            self._connection = None
        return int(lines[0].split()[1]), body.decode()

    def _more(self):
        piece = self._connection.recv(65536)
        if not piece:
            raise Fault("the connection was closed")
        return piece

    def _over_http2(self, path, token):
        url = f"https://127.0.0.1:{self._contestant.tls}{path}"
        command = [
            find("curl"),
            "--silent",
            "--insecure",
            "--http2",
            "--max-time",
            "10",
            "--write-out",
            "\n%{http_version} %{http_code}",
            "--header",
            f"Authorization: Bearer {token}",
            url,
        ]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        reply, _, told = done.stdout.rpartition("\n")
        version, _, status = told.partition(" ")
        if version != "2":
            raise Fault(f"no answer over HTTP/2: {done.stdout} {done.stderr}")
        return int(status), reply


@functools.cache
def anyone():
    """TLS without a look at who answers: the certificate is our own, of this run."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context
