"""What is measured: a function for each scenario, which starts what it needs and hands back samples by contestant."""

import contextlib
import dataclasses
import pathlib

from . import held, steady
from .load import h2load, wrk
from .machine import cores, say
from .peers import Field, Portcullis, start_upstream
from .place import Place
from .rounds import closed_loop
from .tokens import save

# The names that the tables and `targets` go by.
OURS, BEFORE = "Portcullis", "Portcullis, before"

ROUTES = 10_000

# Signed in for a second of the scenario in which every token is new: more than are verified in it. No round sends one
# twice, and each begins with processes that have seen none of them.
NEW_TOKENS = 40_000


@dataclasses.dataclass
class Plan:
    """How much is measured of what: `binaries` of Portcullis by name, rounds, seconds of a round."""

    binaries: dict[str, pathlib.Path]
    rounds: int
    seconds: int
    # The generator for what wrk and h2load do not measure.
    load: pathlib.Path
    # Every command that a scenario started, by name.
    commands: dict[str, str] = dataclasses.field(default_factory=dict)

    @contextlib.contextmanager
    def place(self):
        """Where a scenario takes place. The commands of what it started are kept for the report."""
        with Place() as place:
            yield place
            self.commands |= {process.name: process.told() for process in place.processes}


def _gateways(plan, place, **options):
    """An upstream, and a Portcullis of each binary, ours first."""
    start_upstream(place)
    return [Portcullis(place, name, binary, **options) for name, binary in plan.binaries.items()]


def _proxying(plan, tls=False, http2=False):
    """Every peer and Portcullis, without authentication and with it, as much as the connections make."""
    with plan.place() as place:
        gateways = _gateways(plan, place)
        field = Field(place, gateways[0])
        everyone = [
            field.nginx_bare(),
            field.haproxy_bare(),
            field.envoy_bare(),
            field.haproxy_jwt(),
            field.envoy_jwt(),
            field.envoy_cached(),
        ]
        if not http2:
            everyone.insert(1, field.nginx_headers())
            everyone += [gateway.public() for gateway in gateways]
        everyone += [gateway.authenticated() for gateway in gateways]
        load = (lambda contestant: steady.http2(plan.load, contestant, plan.seconds)) if http2 else None
        return closed_loop(everyone, plan.rounds, plan.seconds, tls=tls, http2=http2, load=load)


def plain(plan):
    """HTTP/1.1 without TLS."""
    return _proxying(plan)


def tls(plan):
    """HTTP/1.1 over TLS 1.3."""
    return _proxying(plan, tls=True)


def http2(plan):
    """HTTP/2 over TLS 1.3, 4 connections with 32 requests at once on each."""
    return _proxying(plan, tls=True, http2=True)


def http2_one_token(plan):
    """The same with h2load, the usual tool, which knows one token at a time: whether it tells the same."""
    with plan.place() as place:
        gateways = _gateways(plan, place)
        field = Field(place, gateways[0])
        everyone = [field.nginx_bare(), field.haproxy_bare(), *(gateway.authenticated() for gateway in gateways)]

        def load(contestant):
            return h2load(contestant, plan.seconds)

        return closed_loop(everyone, plan.rounds, plan.seconds, tls=True, http2=True, load=load)


def new(plan):
    """HTTP/1.1 over TLS 1.3, no token ever seen before."""
    with plan.place() as place:
        gateways = _gateways(plan, place)
        field = Field(place, gateways[0])
        fresh = {}
        for gateway in gateways:
            say(f"  signing in {NEW_TOKENS * plan.seconds} sessions at {gateway.label}")
            sessions = gateway.admin.sign_in_all(NEW_TOKENS * plan.seconds, first=1_000_000)
            fresh[gateway] = save(sessions, place.path / f"{gateway.process.name}.fresh")
        everyone = [field.haproxy_jwt(), field.envoy_cached(), *(gateway.authenticated() for gateway in gateways)]

        def load(contestant):
            return wrk(contestant, True, plan.seconds, tokens=fresh[contestant.gateway], once=True)

        return closed_loop(everyone, plan.rounds, plan.seconds, tls=True, load=load)


def routes(plan):
    """HTTP/1.1 without TLS, a thousand paths in turn: with one route for all, and with a route for each of 10,000."""
    with plan.place() as place:
        start_upstream(place)
        many = [f"/service-{number:05}" for number in range(ROUTES)]
        everyone = []
        for name, binary in plan.binaries.items():
            one, all_ = Portcullis(place, f"{name} one", binary), Portcullis(place, f"{name} many", binary, routes=many)
            everyone += [
                one.authenticated(f"{name}, one route", "/service-00000/1"),
                all_.authenticated(f"{name}, 10,000 routes", "/service-00000/1"),
            ]

        def load(contestant):
            return wrk(contestant, False, plan.seconds, routes=ROUTES)

        return closed_loop(everyone, plan.rounds, plan.seconds, load=load)


def workers(plan):
    """HTTP/1.1 without TLS: one worker on one core, and two on two.

    Without four cores, the two share theirs with the load.
    """
    with plan.place() as place:
        start_upstream(place)
        proxies, loads = cores()
        both = proxies if len(proxies) == 2 else proxies + loads
        everyone = []
        for name, binary in plan.binaries.items():
            one = Portcullis(place, f"{name} one", binary, pinned=both[:1])
            two = Portcullis(place, f"{name} two", binary, workers=2, pinned=both)
            everyone += [one.authenticated(f"{name}, one worker"), two.authenticated(f"{name}, two workers")]
        return closed_loop(everyone, plan.rounds, plan.seconds)


def idle(plan):
    """Resident memory of a TLS connection that was kept open after one request."""
    with plan.place() as place:
        gateways = _gateways(plan, place)
        field = Field(place, gateways[0])
        everyone = [
            field.nginx_bare(),
            field.haproxy_bare(),
            field.envoy_bare(),
            *(gateway.authenticated() for gateway in gateways),
        ]
        return held.connections(everyone, min(plan.rounds, 3))


def handshakes(plan):
    """CPU of the server for a TLS 1.3 handshake: full, and resumed by a ticket.

    Without Envoy, which sends its tickets with the first reply: a handshake alone has none there.
    """
    with plan.place() as place:
        gateways = _gateways(plan, place)
        field = Field(place, gateways[0])
        everyone = [field.nginx_bare(), field.haproxy_bare(), *(gateway.authenticated() for gateway in gateways)]
        return steady.handshakes(plan.load, everyone, plan.rounds, plan.seconds)


def latency(plan):
    """Latency at a fixed rate, 60 % of nginx's greatest, with and without TLS.

    Without those that reach no such rate at all: whoever verifies each token, and Envoy.
    """
    with plan.place() as place:
        gateways = _gateways(plan, place)
        field = Field(place, gateways[0])
        everyone = [field.nginx_bare(), field.haproxy_bare(), *(gateway.authenticated() for gateway in gateways)]
        return steady.latency(plan.load, everyone, plan.rounds, plan.seconds)


ALL = {
    function.__name__: function
    for function in (plain, tls, http2, http2_one_token, new, handshakes, idle, latency, workers, routes)
}
