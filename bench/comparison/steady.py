"""What wrk and h2load do not measure, with the generator in `bench/load`.

That is latency at a fixed rate, TLS handshakes alone, and HTTP/2 with a thousand tokens.
"""

import json
import subprocess

from .load import CONNECTIONS, H2_CONNECTIONS, H2_STREAMS, Load, pinned, wrk
from .machine import Fault, say
from .place import BODY
from .rounds import median

# Of nginx's greatest rate: busy, and with room for a peak.
SHARE = 0.6

# Handshakes at once: enough to keep the server at it while the client does its part, which is the greater one.
AT_ONCE = 8

# X25519 alone is offered where servers are compared; everything, hybrids first, as browsers do.
KINDS = {
    "full": {"resumed": False, "every_group": False},
    "resumed": {"resumed": True, "every_group": False},
    "offered": {"resumed": False, "every_group": True},
}

# Seconds beyond its time that the generator may take to begin and to end.
PATIENCE = 60


def http2(program, contestant, seconds):
    """Closed loop over HTTP/2 and TLS, the tokens in turn on every connection, the body of every reply compared."""
    told = _ask(
        program,
        {
            "job": "http2",
            **_target(contestant, True),
            "connections": H2_CONNECTIONS,
            "streams": H2_STREAMS,
            "seconds": seconds,
        },
        contestant,
    )
    return Load(told["requests"], told["seconds"])


def handshakes(program, contestants, rounds, seconds):
    """Samples of each contestant: CPU of the server for a full and for a resumed handshake."""
    samples = {contestant.name: [] for contestant in contestants}
    for number in range(rounds):
        for contestant in contestants:
            sample = {}
            for kind, asked in KINDS.items():
                started = contestant.process.cpu()
                told = _ask(
                    program,
                    {
                        "job": "handshakes",
                        "address": _address(contestant, True),
                        "connections": AT_ONCE,
                        "seconds": seconds,
                        **asked,
                    },
                    contestant,
                )
                used = contestant.process.cpu() - started
                sample |= {
                    f"{kind}_us": used / (told["handshakes"] + told["first"]) * 1e6,
                    f"{kind}_rate": told["rate"],
                    f"{kind}_cores": used / told["seconds"],
                }
            # Of the last kind, which leaves the choice to the server.
            sample["agreed"] = f"{told['group']}, {told['suite']}"
            samples[contestant.name].append(sample)
            say(
                f"  {number + 1}/{rounds} {contestant.name:32} full {sample['full_us']:6.1f} µs, "
                f"resumed {sample['resumed_us']:6.1f} µs; everything offered {sample['offered_us']:6.1f} µs: "
                f"{sample['agreed']}"
            )
    return samples


def latency(program, contestants, rounds, seconds):
    """Samples of each contestant: how long replies take at 60 % of what the first one of them can do."""
    greatest = {}
    for tls in (False, True):
        loads = [wrk(contestants[0], tls, seconds) for _ in range(3)]
        greatest[tls] = median([{"rate": load.requests / load.seconds} for load in loads], "rate")
        say(f"  greatest rate of {contestants[0].name}{' over TLS' if tls else ''}: {greatest[tls]:.0f}/s")
    samples = {contestant.name: [] for contestant in contestants}
    for number in range(rounds):
        for contestant in contestants:
            sample = {}
            for tls, kind in ((False, "plain"), (True, "tls")):
                told = _ask(
                    program,
                    {
                        "job": "latency",
                        **_target(contestant, tls),
                        "connections": CONNECTIONS,
                        "rate": greatest[tls] * SHARE,
                        "seconds": seconds,
                    },
                    contestant,
                )
                sample |= {f"{kind}_{figure}": value for figure, value in told.items()}
                sample[f"{kind}_due"] = greatest[tls] * SHARE
            samples[contestant.name].append(sample)
            say(
                f"  {number + 1}/{rounds} {contestant.name:32} p99 {sample['plain_p99_us']:7.0f} µs plain, "
                f"{sample['tls_p99_us']:7.0f} µs over TLS, at {sample['plain_rate']:.0f} and {sample['tls_rate']:.0f}/s"
            )
    return samples


def _address(contestant, tls):
    return f"127.0.0.1:{contestant.port(tls)}"


def _target(contestant, tls):
    return {
        "address": _address(contestant, tls),
        "tls": tls,
        "path": contestant.path,
        "tokens": str(contestant.gateway.tokens),
        "body": BODY,
    }


def _ask(program, job, contestant):
    limit = job.get("seconds", 0) + PATIENCE
    try:
        done = subprocess.run(
            pinned([program]), input=json.dumps(job), capture_output=True, text=True, check=False, timeout=limit
        )
    except subprocess.TimeoutExpired as late:
        raise Fault(f"{contestant.name}, {job['job']}: no end within {limit} s") from late
    if done.returncode:
        raise Fault(f"{contestant.name}, {job['job']}: {done.stderr.strip()}")
    return json.loads(done.stdout)
