"""Who is measured when: one after the other, round by round, so that what the machine does besides falls on all alike."""

import statistics

from .load import wrk
from .machine import Fault, say
from .probe import Probe

# The reply of a peer may say how long it took, in one digit or two.
SIZE_TOLERANCE = 2


def closed_loop(contestants, rounds, seconds, tls=False, http2=False, load=None, before=None):
    """Samples of each contestant, by its name, of as much load as 64 connections make without a pause.

    `load(contestant)` is another load than the usual one; `before(contestant)` prepares each round, unmeasured.
    """
    load = load or (lambda contestant: wrk(contestant, tls, seconds))
    for contestant in contestants:
        if before is None:
            # Connections to the upstream, caches, and every body compared.
            wrk(contestant, tls, 1, compare=True)
    samples = {contestant.name: [] for contestant in contestants}
    for number in range(rounds):
        for contestant in contestants:
            if before:
                before(contestant)
            sample = _sample(contestant, load, tls, http2)
            samples[contestant.name].append(sample)
            say(f"  {number + 1}/{rounds} {contestant.name:32} {sample['cpu_us']:7.2f} µs/request "
                f"{sample['rate']:8.0f}/s {sample['core']:4.0%} of a core")
    return samples


def _sample(contestant, load, tls, http2):
    probe = Probe(contestant, tls, http2)
    started = contestant.process.cpu()
    probe.start()
    try:
        done = load(contestant)
    finally:
        asked = probe.finish()
    used = contestant.process.cpu() - started
    if probe.size and done.bytes and abs(done.bytes / done.requests - probe.size) > SIZE_TOLERANCE:
        raise Fault(f"{contestant.name}: replies of {done.bytes / done.requests:.1f} bytes, a right one has {probe.size}")
    return {
        "cpu_us": used / (done.requests + asked) * 1e6,
        "rate": done.requests / done.seconds,
        "core": used / done.seconds,
        "p99_us": done.p99_us,
        "broken": done.broken,
        "refused": probe.refused,
    }


def median(samples, figure="cpu_us"):
    """The median of a figure of samples."""
    return statistics.median(sample[figure] for sample in samples)


def ratio(ours, theirs, figure="cpu_us"):
    """The median of the ratios round by round, the least and the greatest: what was measured side by side is compared."""
    ratios = sorted(our[figure] / their[figure] for our, their in zip(ours, theirs, strict=True))
    return statistics.median(ratios), ratios[0], ratios[-1]
