"""Real tokens: sessions signed in over the admin listener of a Portcullis, its public key for the others, forgeries."""

import base64
import concurrent.futures
import http.client
import json
import threading

from .machine import Fault

ADMIN_TOKEN = "0123456789abcdef0123456789abcdef"

# Connections that sign in at once: the store writes them to the disk together.
SIGNING_IN = 32

# The header of a P-256 key in DER (RFC 5480), up to its two coordinates.
P256_HEADER = bytes.fromhex("3059301306072a8648ce3d020106082a8648ce3d03010703420004")


class Admin:
    """The admin listener of a Portcullis."""

    def __init__(self, port):
        self._port = port
        self._local = threading.local()

    def ask(self, method, path, body=None):
        """Status and JSON of an answer, over a connection that this thread keeps."""
        text = json.dumps(body) if body is not None else None
        headers = {"Authorization": f"Bearer {ADMIN_TOKEN}", "Content-Type": "application/json"}
        for attempt in range(2):
            connection = getattr(self._local, "connection", None)
            if connection is None:
                connection = self._local.connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=30)
            try:
                connection.request(method, path, text, headers)
                answer = connection.getresponse()
                read = answer.read()
                return answer.status, json.loads(read) if read else None
            except (http.client.HTTPException, OSError):
                # A kept connection may have been closed meanwhile, and the gateway started again.
                self._local.connection = None
                connection.close()
                if attempt:
                    raise
        raise AssertionError("unreachable")

    def sign_in(self, user):
        """Signs a user in: the session's id and its access token."""
        status, answer = self.ask("POST", "/v1/sessions", {"user_id": user})
        if status != 201:
            raise Fault(f"sign-in of {user}: {status} {answer}")
        return Session(user, answer["session_id"], answer["access_token"])

    def sign_in_all(self, count, first=0):
        """Signs in `count` users, a session each."""
        users = (f"user-{number}" for number in range(first, first + count))
        with concurrent.futures.ThreadPoolExecutor(SIGNING_IN) as pool:
            return list(pool.map(self.sign_in, users))

    def end(self, session):
        """Ends a session: from the answer on its token is refused."""
        status, answer = self.ask("DELETE", f"/v1/sessions/{session.id}")
        if status != 204:
            raise Fault(f"end of a session: {status} {answer}")


class Session:
    """A session that was signed in."""

    def __init__(self, user, session, token):
        self.user, self.id, self.token = user, session, token

    def forged(self):
        """The same token with one bit of its signature changed: well-formed, and nobody's."""
        head, _, signature = self.token.rpartition(".")
        raw = bytearray(base64.urlsafe_b64decode(signature + "=="))
        raw[40] ^= 1
        return f"{head}.{base64.urlsafe_b64encode(raw).decode().rstrip('=')}"


def save(sessions, path):
    """Writes the tokens, one a line, as the generators read them."""
    path.write_text("".join(session.token + "\n" for session in sessions))
    return path


def fetch_keys(port, place):
    """The public keys that a Portcullis publishes, as its own document and as PEM, for those who verify its tokens."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    connection.request("GET", "/.well-known/jwks.json")
    document = json.loads(connection.getresponse().read())
    connection.close()
    jwks = place.path / "jwks.json"
    jwks.write_text(json.dumps(document))
    # The first is the one that signs now.
    key = document["keys"][0]
    point = b"".join(base64.urlsafe_b64decode(key[part] + "=") for part in ("x", "y"))
    lines = base64.encodebytes(P256_HEADER + point).decode()
    pem = place.path / "public.pem"
    pem.write_text(f"-----BEGIN PUBLIC KEY-----\n{lines}-----END PUBLIC KEY-----\n")
    return {"jwks": jwks, "public_key": pem}
