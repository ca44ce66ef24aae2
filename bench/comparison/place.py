"""The files and ports of one run, and the templates under `peers/` filled in with them."""

import pathlib
import re
import socket
import tempfile

from .machine import Fault, run

PEERS = pathlib.Path(__file__).parent / "peers"

# What the upstream answers: 90 bytes, as a small JSON API does.
BODY = '{"order":1,"items":[{"sku":"A-1001","count":2},{"sku":"B-2002","count":1}],"state":"sent"}'

FIRST_PORT = 18000
ISSUER = "https://shop.example.com"
AUDIENCE = "shop"


class Place:
    """A directory that goes away, a certificate in it, a number for each port by its name, and what was started."""

    def __init__(self):
        self._directory = tempfile.TemporaryDirectory(prefix="portcullis-compare-")
        self.path = pathlib.Path(self._directory.name)
        # Workers of a server that a superuser starts are somebody else.
        self.path.chmod(0o755)
        self.values = {"run": self.path, "body": BODY, "issuer": ISSUER, "audience": AUDIENCE, "workers": 1}
        self._ports = {}
        # Whatever ends the run ends them, too.
        self.processes = []
        self._certificate()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for process in reversed(self.processes):
            process.stop()
        self._directory.cleanup()

    def port(self, name):
        """The port of this name: the same for the whole run, and nobody else's."""
        if name not in self._ports:
            number = FIRST_PORT + len(self._ports)
            with socket.socket() as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                try:
                    probe.bind(("127.0.0.1", number))
                except OSError as error:
                    raise Fault(f"port {number} for {name}: {error.strerror}") from error
            self._ports[name] = number
        return self._ports[name]

    def render(self, template, name, **values):
        """Writes the file `name` from a template of `peers/`: `@word@` is a value, or else the port of that name."""
        known = {**self.values, **values}

        def fill(found):
            word = found[1]
            return str(known[word]) if word in known else str(self.port(word))

        path = self.path / name
        path.write_text(re.sub(r"@([a-z_]+)@", fill, (PEERS / template).read_text()))
        return path

    def _certificate(self):
        """A P-256 certificate, the kind that every server here is fastest with."""
        chain, key = self.path / "chain.pem", self.path / "key.pem"
        run(
            [
                "openssl",
                "req",
                "-x509",
                "-newkey",
                "ec",
                "-pkeyopt",
                "ec_paramgen_curve:P-256",
                "-nodes",
                "-days",
                "30",
                "-subj",
                "/CN=localhost",
                "-addext",
                "subjectAltName=DNS:localhost,IP:127.0.0.1",
                "-keyout",
                key,
                "-out",
                chain,
            ]
        )
        # HAProxy takes both in one file.
        both = self.path / "both.pem"
        both.write_text(chain.read_text() + key.read_text())
        self.values |= {"certificate": chain, "key": key, "certificate_and_key": both}
