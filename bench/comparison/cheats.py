"""Whether the checks find what they are for: contestants that cheat, each of which must end its scenario."""

import dataclasses

from . import steady
from .load import wrk
from .machine import Fault, say
from .peers import PUBLIC_PATH, Field, Portcullis, start_upstream
from .place import Place
from .rounds import closed_loop
from .scenarios import OURS

# Long enough for the client beside the load to ask for everything.
SECONDS = 2


def find(binary, generator):
    """Tries every way to cheat.

    Raises Fault where one is not found out.
    """
    with Place() as place:
        start_upstream(place)
        gateway = Portcullis(place, OURS, binary)
        field = Field(place, gateway)
        checking = (gateway.authenticated(), field.haproxy_jwt(), field.envoy_cached())
        unheard = Portcullis(place, "another", binary)
        spoiled = place.path / "spoiled.tokens"
        tokens = [session.token for session in gateway.sessions]
        tokens[len(tokens) // 2] = gateway.sessions[len(tokens) // 2].forged()
        spoiled.write_text("\n".join(tokens) + "\n")
        echo = dataclasses.replace(field.nginx_bare(), path="/echo")

        _must_fail("another body over HTTP/1.1", wrk, echo, True, 1, compare=True)
        _must_fail("another body over HTTP/2", steady.http2, generator, echo, 1)
        _must_fail("another body at a fixed rate", steady.latency, generator, [echo], 1, 1)
        _must_fail("no look at any token", _round, dataclasses.replace(field.nginx_bare(), checks=True))
        _must_fail("a public route instead", _round, dataclasses.replace(checking[0], path=PUBLIC_PATH))
        for contestant in checking:
            _must_fail(
                f"one forged token of {len(tokens)} at {contestant.name}", wrk, contestant, True, 1, tokens=spoiled
            )
            _must_fail(
                f"tokens of another issuer at {contestant.name}", wrk, contestant, True, 1, tokens=unheard.tokens
            )
            _must_fail(f"ended sessions that go on at {contestant.name}", _round, _deaf(contestant))
        # What its upstream would let pass: nothing without identity.
        told = dataclasses.replace(field.nginx_bare(), plain=place.port("identity_port"))
        _must_fail("no identity for the upstream", wrk, told, False, 1)


def _deaf(contestant):
    """The same, without ever being told that a session has ended."""
    return dataclasses.replace(contestant, revoke=lambda session: None)


def _round(contestant):
    closed_loop([contestant], 1, SECONDS)


def _must_fail(what, measure, *arguments, **more):
    try:
        measure(*arguments, **more)
    except Fault as fault:
        say(f"found: {what}: {str(fault).splitlines()[0][:100]}")
    else:
        raise Fault(f"not found: {what}")
