"""The ratios that Portcullis is held to: what, against whom, and at most how much."""

import dataclasses

from .rounds import median, ratio
from .scenarios import BEFORE, OURS


@dataclasses.dataclass(frozen=True)
class Target:
    """A figure of `ours` in a scenario, at most `at_most` times that of `theirs`."""

    what: str
    at_most: float
    scenario: str
    theirs: str
    ours: str = OURS
    figure: str = "cpu_us"

    def measured(self, results, before=False):
        """The ratio, its least and greatest, and both medians; `None` where it was not measured."""
        samples = results["scenarios"].get(self.scenario, {}).get("samples", {})
        ours, theirs = (name.replace(OURS, BEFORE) if before else name for name in (self.ours, self.theirs))
        if ours not in samples or theirs not in samples:
            return None
        ours, theirs = samples[ours], samples[theirs]
        return *ratio(ours, theirs, self.figure), median(ours, self.figure), median(theirs, self.figure)


# In the order of the table.
TARGETS = (
    Target("authenticated, HTTP/1.1 plain: CPU per request, of nginx bare", 1.05, "plain", "nginx, bare"),
    Target("authenticated, HTTP/1.1 TLS: of nginx bare TLS", 0.80, "tls", "nginx, bare"),
    Target("authenticated, HTTP/2 TLS: of HAProxy bare HTTP/2", 1.10, "http2", "HAProxy, bare"),
    Target("authenticated TLS: of HAProxy `jwt_verify`", 0.13, "tls", "HAProxy, jwt_verify"),
    Target("authenticated TLS: of Envoy `jwt_authn` with its cache", 0.22, "tls", "Envoy, jwt_authn, cached"),
    Target("every token new, TLS: of HAProxy `jwt_verify`", 0.75, "new", "HAProxy, jwt_verify"),
    Target("authentication on, plain: of off, in Portcullis itself", 1.06, "plain", f"{OURS}, public route"),
    Target("authentication on, TLS: of off, in Portcullis itself", 1.06, "tls", f"{OURS}, public route"),
    Target("full TLS handshake: CPU, of nginx", 1.0, "handshakes", "nginx, bare", figure="full_us"),
    Target("resumed TLS handshake: CPU, of nginx", 1.0, "handshakes", "nginx, bare", figure="resumed_us"),
    Target("idle keep-alive TLS connection: memory, of nginx", 1.1, "idle", "nginx, bare", figure="bytes"),
    Target(
        "p99 latency at 60 % of nginx's greatest rate, plain: of nginx",
        1.0,
        "latency",
        "nginx, bare",
        figure="plain_p99_us",
    ),
    Target(
        "p99 latency at 60 % of nginx's greatest rate, TLS: of nginx",
        1.0,
        "latency",
        "nginx, bare",
        figure="tls_p99_us",
    ),
    Target(
        "two workers on two cores: CPU per request, of one on one",
        1.05,
        "workers",
        f"{OURS}, one worker",
        f"{OURS}, two workers",
    ),
    Target("10,000 routes: CPU per request, of one", 1.03, "routes", f"{OURS}, one route", f"{OURS}, 10,000 routes"),
)
