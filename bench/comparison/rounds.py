"""Who is measured when: one after the other, round by round, so that what else the machine does falls on all alike."""

import statistics
import time

from .load import wrk
from .machine import Fault, say
from .probe import Probe

# The reply of a peer may say how long it took, in one digit or two.
SIZE_TOLERANCE = 2

# Seconds, unmeasured: a thousand tokens are verified in the first tenth of one.
WARM_UP = 1


def closed_loop(contestants, rounds, seconds, *, tls=False, http2=False, load=None):
    """Samples of each contestant, by its name, of as much load as 64 connections make without a pause.

    `load(contestant)` is another load than the usual one. Every sample is taken of a process that was started for it:
    where a process lies in memory makes it some percent slower or faster for all its life, and caches begin empty.
    """
    load = load or (lambda contestant: wrk(contestant, tls, seconds))
    samples = {contestant.name: [] for contestant in contestants}
    for number in range(rounds):
        for contestant in contestants:
            contestant.process.restart()
            # Connections to the upstream, caches, and every body compared.
            wrk(contestant, tls, WARM_UP, compare=True)
            sample = _sample(contestant, load, tls, http2)
            samples[contestant.name].append(sample)
            say(
                f"  {number + 1}/{rounds} {contestant.name:32} {sample['cpu_us']:7.2f} µs/request "
                f"{sample['rate']:8.0f}/s {sample['cores']:5.2f} cores"
            )
    return samples


def _sample(contestant, load, tls, http2):
    probe = Probe(contestant, tls, http2)
    started, busy, began = contestant.process.cpu(), contestant.process.busy(), time.monotonic()
    probe.start()
    try:
        done = load(contestant)
    finally:
        asked = probe.finish()
    used = contestant.process.cpu() - started
    busy, took = contestant.process.busy() - busy, time.monotonic() - began
    if probe.size and done.bytes and abs(done.bytes / done.requests - probe.size) > SIZE_TOLERANCE:
        raise Fault(
            f"{contestant.name}: replies of {done.bytes / done.requests:.1f} bytes, a right one has {probe.size}"
        )
    return {
        "cpu_us": used / (done.requests + asked) * 1e6,
        "rate": done.requests / done.seconds,
        "cores": used / done.seconds,
        # Of the proxy's core, for anything but the proxy.
        "others": max(busy - used, 0) / took,
        "p99_us": done.p99_us,
        "broken": done.broken,
        "refused": probe.refused,
    }


def median(samples, figure="cpu_us"):
    """The median of a figure of samples."""
    return statistics.median(sample[figure] for sample in samples)


def ratio(ours, theirs, figure="cpu_us"):
    """The median of the ratios of each round, the least, the greatest: what was measured side by side is compared."""
    ratios = sorted(our[figure] / their[figure] for our, their in zip(ours, theirs, strict=True))
    return statistics.median(ratios), ratios[0], ratios[-1]
