"""Every proxy of the comparison and the upstream behind them, started from the templates under `peers/`."""

import dataclasses
import re
import socket

from .machine import cores, envoy, find
from .processes import Process
from .tokens import ADMIN_TOKEN, Admin, fetch_keys, save

# Distinct tokens that are sent in turn.
TOKENS = 1000

PATH = "/orders/1"
PUBLIC_PATH = "/public/1"


@dataclasses.dataclass
class Contestant:
    """One way to send requests through one proxy, as it stands in the tables."""

    name: str
    process: Process
    plain: int
    tls: int
    # Whose sessions the tokens sent are, and whom an end of one is asked of.
    gateway: "Portcullis"
    path: str = PATH
    # Whether a forged token is refused, and whether the upstream is told who asks.
    checks: bool = False
    # Makes an end of a session known to this proxy: only where it can know.
    revoke: object = None

    def port(self, tls):
        """The port without or with TLS."""
        return self.tls if tls else self.plain

    def url(self, tls):
        """Where requests go."""
        return f"{'https' if tls else 'http'}://127.0.0.1:{self.port(tls)}{self.path}"


class Portcullis:
    """A Portcullis with a store, keys and tokens of its own."""

    def __init__(self, place, label, binary, *, workers=1, routes=None, pinned=None):
        self.label, self._place = label, place
        tag = re.sub(r"[^a-z0-9]+", "-", label.lower())
        self.directory = place.path / tag
        self.directory.mkdir()
        admin_token = self.directory / "admin-token"
        admin_token.write_text(ADMIN_TOKEN)
        admin_token.chmod(0o600)
        ports = {part: place.port(f"{tag}_{part}") for part in ("plain", "tls", "admin")}
        self.config = place.render(
            "portcullis.toml",
            f"{tag}/portcullis.toml",
            workers=workers,
            **ports,
            admin_token=admin_token,
            store=self.directory / "data",
        )
        if routes:
            with self.config.open("a") as config:
                config.writelines(f'\n[[route]]\npath = "{route}"\nupstream = "identity"\n' for route in routes)
        self.plain, self.tls = ports["plain"], ports["tls"]
        self.process = Process(
            place, tag, [binary, "run", "--config", self.config], pinned or cores()[0], ports.values()
        )
        self.admin = Admin(ports["admin"])
        self.sessions = self.admin.sign_in_all(TOKENS)
        self.tokens = save(self.sessions, self.directory / "tokens")

    def authenticated(self, name=None, path=PATH):
        """Requests to a route that demands a token."""
        return Contestant(name or self.label, self.process, self.plain, self.tls, self, path, True, self.admin.end)

    def public(self):
        """The same requests to a route that looks at no token."""
        return Contestant(f"{self.label}, public route", self.process, self.plain, self.tls, self, PUBLIC_PATH)


class Field:
    """The upstream and the peers. `gateway` is the Portcullis whose tokens they get."""

    def __init__(self, place, gateway):
        self._place, self._gateway = place, gateway
        place.values |= fetch_keys(gateway.plain, place)
        self.nginx = self._start(
            "nginx",
            [find("nginx"), "-p", place.path, "-c", place.render("nginx.conf", "nginx.conf")],
            "nginx_plain",
            "nginx_tls",
            "nginx_headers_plain",
            "nginx_headers_tls",
        )
        (place.path / "revoked.list").touch()
        self.haproxy = self._start(
            "haproxy",
            [find("haproxy"), "-f", place.render("haproxy.cfg", "haproxy.cfg")],
            "haproxy_plain",
            "haproxy_tls",
            "haproxy_jwt_plain",
            "haproxy_jwt_tls",
        )
        self.envoy = self._start(
            "envoy",
            [
                envoy(),
                "-c",
                place.render("envoy.yaml", "envoy.yaml"),
                "--concurrency",
                "1",
                "--log-level",
                "error",
                "--disable-hot-restart",
            ],
            "envoy_plain",
            "envoy_tls",
            "envoy_jwt_plain",
            "envoy_jwt_tls",
            "envoy_cached_plain",
            "envoy_cached_tls",
        )

    def _start(self, name, command, *ports):
        return Process(self._place, name, command, cores()[0], [self._place.port(port) for port in ports])

    def _contestant(self, name, process, ports, **more):
        plain, tls = (self._place.port(f"{ports}_{part}") for part in ("plain", "tls"))
        return Contestant(name, process, plain, tls, self._gateway, **more)

    def nginx_bare(self):
        """nginx that passes on what it gets."""
        return self._contestant("nginx, bare", self.nginx, "nginx")

    def nginx_headers(self):
        """nginx with the forwarding headers that Portcullis adds."""
        return self._contestant("nginx, forwarding headers", self.nginx, "nginx_headers")

    def haproxy_bare(self):
        """HAProxy that passes on what it gets."""
        return self._contestant("HAProxy, bare", self.haproxy, "haproxy")

    def haproxy_jwt(self):
        """HAProxy that checks tokens."""
        return self._contestant("HAProxy, jwt_verify", self.haproxy, "haproxy_jwt", checks=True, revoke=self._revoke)

    def envoy_bare(self):
        """Envoy that passes on what it gets."""
        return self._contestant("Envoy, bare", self.envoy, "envoy")

    def envoy_jwt(self):
        """Envoy that verifies every token."""
        return self._contestant("Envoy, jwt_authn", self.envoy, "envoy_jwt", checks=True)

    def envoy_cached(self):
        """Envoy that remembers the tokens that it verified."""
        return self._contestant("Envoy, jwt_authn, cached", self.envoy, "envoy_cached", checks=True)

    def _revoke(self, session):
        """Tells HAProxy of an ended session, as its runtime API does."""
        with socket.socket(socket.AF_UNIX) as told:
            told.connect(str(self._place.path / "haproxy.sock"))
            told.sendall(f"add acl {self._place.path}/revoked.list {session.id}\n".encode())
            told.shutdown(socket.SHUT_WR)
            while told.recv(4096):
                pass


def start_upstream(place):
    """The upstream, on the core of the load generator."""
    command = [find("nginx"), "-p", place.path, "-c", place.render("upstream.conf", "upstream.conf")]
    ports = [place.port("upstream_port"), place.port("identity_port")]
    return Process(place, "upstream", command, cores()[1][:1], ports)
