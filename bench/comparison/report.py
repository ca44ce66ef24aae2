"""The report: one Markdown file with the ratios, the figures behind them, the machine and the commands."""

import pathlib
import statistics

from .place import BODY
from .rounds import median, ratio
from .scenarios import BEFORE, OURS
from .targets import TARGETS

# Lines before the first row of a table.
HEADING = 4

TITLES = {
    "plain": "HTTP/1.1 without TLS, 64 connections",
    "tls": "HTTP/1.1 over TLS 1.3, 64 connections",
    "http2": "HTTP/2 over TLS 1.3, 4 connections × 32 streams",
    "http2_one_token": "The same with h2load, one token a connection",
    "new": "Every token new, HTTP/1.1 over TLS 1.3, 64 connections",
    "handshakes": "TLS 1.3 handshakes, X25519, a P-256 certificate",
    "idle": "An idle keep-alive TLS connection",
    "latency": "Latency at 60 % of nginx's greatest rate",
    "workers": "Two workers on two cores, HTTP/1.1 without TLS",
    "routes": "10,000 routes, HTTP/1.1 without TLS",
}

# Columns of a scenario's table: heading, figure of a sample, factor, digits, and whether least and greatest are told.
CLOSED_LOOP = (
    ("CPU µs per request", "cpu_us", 1, 2, True),
    ("requests/s", "rate", 1, 0, False),
    ("cores used", "cores", 1, 2, False),
)
COLUMNS = {
    "idle": (("KiB a connection", "bytes", 1 / 1024, 1, True),),
    "handshakes": (
        ("full: CPU µs", "full_us", 1, 1, True),
        ("cores used", "full_cores", 1, 2, False),
        ("resumed: CPU µs", "resumed_us", 1, 1, True),
        ("cores used", "resumed_cores", 1, 2, False),
        ("full, every group offered: CPU µs", "offered_us", 1, 1, True),
        ("agreed on", "agreed", None, None, False),
    ),
    "latency": tuple(
        column
        for kind, title in (("plain", "plain"), ("tls", "TLS"))
        for column in (
            (f"{title}: due, replies/s", f"{kind}_due", 1, 0, False),
            ("came", f"{kind}_rate", 1, 0, False),
            ("p50 µs", f"{kind}_p50_us", 1, 0, False),
            (f"{title}: p99 µs", f"{kind}_p99_us", 1, 0, True),
            ("sent late, p99 µs", f"{kind}_late_p99_us", 1, 0, False),
        )
    ),
}


def write(results):
    """The whole report."""
    parts = [_head(results), ratios(results), "![CPU per request](compare.svg)\n"]
    parts += [_scenario(name, results["scenarios"][name]) for name in TITLES if name in results["scenarios"]]
    parts += [_before(results), _checked(results), _commands(results)]
    return "\n".join(parts)


def _head(results):
    machine = results["machine"]
    versions = "; ".join(f"{name} {version}" for name, version in machine["versions"].items())
    return f"""# Portcullis beside other proxies

Written by `bench/compare`, which measures all of this again; [what the figures mean](../README.md).

| | |
|---|---|
| Date | {machine["date"]} |
| Commit | {machine["commit"]} |
| Processor | {machine["processor"]} |
| Cores | {machine["cores"]} |
| Memory | {machine["memory"]} |
| System | {machine["system"]}, {machine["kernel"]} |
| Versions | {versions} |
"""


def ratios(results):
    """The table of the ratios; with an older Portcullis measured beside, its ratios, too."""
    before = any(target.measured(results, before=True) for target in TARGETS)
    lines = [
        "## What it is held to",
        "",
        "The median of the ratios of each round, in which all are measured in turn; least and greatest beside it.",
        "",
        f"| what | at most | measured | {'before | ' if before else ''}ours | theirs | |",
        f"|---|---|---|{'---|' if before else ''}---|---|---|",
    ]
    for target in TARGETS:
        measured = target.measured(results)
        if not measured:
            continue
        middle, least, greatest, ours, theirs = measured
        row = [target.what, f"{target.at_most:.2f}", f"**{middle:.2f}** ({least:.2f}–{greatest:.2f})"]
        if before:
            earlier = target.measured(results, before=True)
            row.append(f"{earlier[0]:.2f}" if earlier else "")
        row += [
            _figure(ours, target.figure),
            _figure(theirs, target.figure),
            "met" if round(middle, 2) <= target.at_most else "not met",
        ]
        lines.append(f"| {' | '.join(row)} |")
    return "\n".join(lines) + "\n"


def _figure(value, figure):
    return f"{value / 1024:.1f} KiB" if figure == "bytes" else f"{value:.1f} µs"


def _scenario(name, scenario):
    columns = COLUMNS.get(name, CLOSED_LOOP)
    lines = [
        f"## {TITLES[name]}",
        "",
        f"{_taken(scenario)}",
        "",
        f"| | {' | '.join(column[0] for column in columns)} |",
        f"|---|{'---|' * len(columns)}",
    ]
    for who, samples in scenario["samples"].items():
        cells = [_cell(samples, *column[1:]) for column in columns]
        lines.append(f"| {who} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _before(results):
    """What changed since an older Portcullis, where one was measured beside."""
    lines = ["## Before and after", "", "| | before | after | ratio |", "|---|---|---|---|"]
    for name, scenario_title in TITLES.items():
        scenario = results["scenarios"].get(name, {"samples": {}})
        for who, after in scenario["samples"].items():
            before = scenario["samples"].get(who.replace(OURS, BEFORE, 1))
            if before is None or not who.startswith(OURS) or who.startswith(BEFORE):
                continue
            for title, figure, factor, digits, spread in COLUMNS.get(name, CLOSED_LOOP):
                if spread:
                    middle, least, greatest = ratio(after, before, figure)
                    told = (median(samples, figure) * factor for samples in (before, after))
                    cells = [f"{value:,.{digits}f}" for value in told]
                    what = f"{scenario_title}: {who.removeprefix(f'{OURS}, ')}, {title}"
                    lines.append(f"| {what} | {' | '.join(cells)} | {middle:.2f} ({least:.2f}–{greatest:.2f}) |")
    return "\n".join(lines) + "\n" if len(lines) > HEADING else ""


def _taken(scenario):
    """How often and when, and what else the proxy's core had to do."""
    samples = [sample for taken in scenario["samples"].values() for sample in taken]
    rounds = len(next(iter(scenario["samples"].values())))
    told = f"{rounds} {'round' if rounds == 1 else 'rounds'}"
    if scenario["name"] != "idle":
        told += f" of {scenario['seconds']} s"
    told += f", {scenario['date']}."
    if all("others" in sample for sample in samples):
        others = [sample["others"] for sample in samples]
        told += f" Other work took {statistics.median(others):.1%} of the proxy's core in the median round, "
        told += f"{max(others):.1%} at most."
    return told


def _cell(samples, figure, factor, digits, spread):
    if factor is None:
        return samples[0][figure]
    values = [sample[figure] * factor for sample in samples]
    text = f"{median(samples, figure) * factor:,.{digits}f}"
    return f"{text} ({min(values):,.{digits}f}–{max(values):,.{digits}f})" if spread else text


def _checked(results):
    """The text in `checked.md`, with how many requests were made to be refused."""
    tried = {"forged": 0, "ended": 0}
    for scenario in results["scenarios"].values():
        for samples in scenario["samples"].values():
            for sample in samples:
                for kind, count in sample.get("refused", {}).items():
                    tried[kind] += count
    text = (pathlib.Path(__file__).parent / "checked.md").read_text()
    for word, count in {**tried, "length": len(BODY)}.items():
        text = text.replace(f"@{word}@", f"{count:,}")
    return text


def _commands(results):
    lines = [command for _, command in sorted(results["commands"].items())]
    return "## Commands\n\n```\n" + "\n".join(lines) + "\n```\n"
