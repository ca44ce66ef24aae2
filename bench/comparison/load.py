"""The load generators: wrk for HTTP/1.1, h2load for HTTP/2. Both run on the core that the proxy has not."""

import dataclasses
import json
import pathlib
import re
import subprocess

from .machine import Fault, cores, find
from .place import BODY

CONNECTIONS = 64

# HTTP/2: as many requests at once, over fewer connections, as browsers and gateways in front keep them.
H2_CONNECTIONS, H2_STREAMS = 4, 32

# Of all requests: so few may meet a closed connection or a timeout before a round is worth nothing.
BROKEN = 0.001


@dataclasses.dataclass
class Load:
    """What a generator counted."""

    requests: int
    seconds: float
    bytes: int = 0
    broken: int = 0
    p99_us: int = 0


def wrk(contestant, tls, seconds, *, tokens=None, once=False, compare=False, routes=0):
    """Closed loop over HTTP/1.1.

    With `once` no token is sent twice; with `compare` the body of every reply is looked at; with `routes` each token
    goes to a path of its own, spread over so many.
    """
    script = pathlib.Path(__file__).parent / "tokens.lua"
    command = [
        "wrk",
        "-t1",
        f"-c{CONNECTIONS}",
        f"-d{seconds}s",
        "-s",
        script,
        contestant.url(tls),
        "--",
        tokens or contestant.gateway.tokens,
        "once" if once else "again",
        routes,
        *([BODY] if compare else []),
    ]
    told = json.loads(_run(command).rstrip().rpartition("\n")[2])
    if told["refused"] or told["wrong_bodies"]:
        raise Fault(
            f"{contestant.name}: {told['refused']} replies were no success, {told['wrong_bodies']} had another body"
        )
    load = Load(told["requests"], told["us"] / 1e6, told["bytes"], told["broken"], told["p99_us"])
    return _checked(contestant, load)


def h2load(contestant, seconds):
    """Closed loop over HTTP/2 and TLS. Each of four generators sends a token of its own: h2load knows one at a time."""
    each = []
    for session in contestant.gateway.sessions[:H2_CONNECTIONS]:
        command = [
            find("h2load"),
            "-t1",
            "-c1",
            f"-m{H2_STREAMS}",
            f"-D{seconds}",
            "-H",
            f"authorization: Bearer {session.token}",
            contestant.url(True),
        ]
        each.append(subprocess.Popen(pinned(command), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True))
    total, slowest = 0, 0.0
    for generator in each:
        out, err = generator.communicate()
        counts = re.search(r"(\d+) done, (\d+) succeeded, (\d+) failed, (\d+) errored, (\d+) timeout", out)
        finished = re.search(r"finished in ([\d.]+)(ms|s),", out)
        codes = re.search(r"status codes: (\d+) 2xx, (\d+) 3xx, (\d+) 4xx, (\d+) 5xx", out)
        if not counts or not finished or not codes or "Application protocol: h2\n" not in out:
            raise Fault(f"h2load against {contestant.name}: {out[-2000:]} {err[-2000:]}")
        # It counts as failed what was in flight when the time was over.
        if any(int(codes[number]) for number in (2, 3, 4)) or int(codes[1]) < int(counts[2]):
            raise Fault(f"{contestant.name}: replies that were no success: {codes[0]}")
        total += int(counts[2])
        slowest = max(slowest, float(finished[1]) / (1000 if finished[2] == "ms" else 1))
    return Load(total, slowest)


def _checked(contestant, load):
    if load.requests == 0 or load.broken > BROKEN * load.requests:
        raise Fault(f"{contestant.name}: {load.broken} connections broke in {load.requests} requests")
    return load


def pinned(command):
    """The command on the cores of the generators."""
    return [find("taskset"), "-c", ",".join(str(core) for core in cores()[1]), *(str(part) for part in command)]


def _run(command):
    done = subprocess.run(pinned(command), capture_output=True, text=True, check=False)
    if done.returncode:
        raise Fault(f"{command[0]}: {done.stdout}{done.stderr}")
    return done.stdout
