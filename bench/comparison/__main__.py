"""The command line of `bench/compare`."""

import argparse
import datetime
import json
import os
import pathlib
import signal
import sys

from . import chart, cheats, machine, report, scenarios
from .machine import Fault, say

RESULTS = machine.ROOT / "bench" / "results"


def arguments():
    """What was asked for."""
    parser = argparse.ArgumentParser(
        prog="bench/compare", description="Measures Portcullis beside nginx, HAProxy and Envoy on this machine."
    )
    parser.add_argument(
        "--only",
        action="append",
        choices=scenarios.ALL,
        metavar="NAME",
        help=f"one scenario, may be given again: {', '.join(scenarios.ALL)}; "
        "with --json what the file holds of others is kept",
    )
    parser.add_argument("--quick", action="store_true", help="a smoke run: one round of a second of each")
    parser.add_argument(
        "--cheats", action="store_true", help="instead: whether contestants that cheat are found out, in a minute"
    )
    parser.add_argument("--rounds", type=int, metavar="N", help="rounds (default 7)")
    parser.add_argument("--seconds", type=int, metavar="N", help="seconds of a round (default 4)")
    parser.add_argument(
        "--binary", type=pathlib.Path, metavar="PATH", help="a built portcullis, instead of building one"
    )
    parser.add_argument(
        "--baseline", type=pathlib.Path, metavar="PATH", help="an older portcullis, measured beside in the same rounds"
    )
    parser.add_argument("--json", type=pathlib.Path, metavar="PATH", help="every sample, for later")
    parser.add_argument(
        "--output",
        type=pathlib.Path,
        metavar="DIRECTORY",
        default=RESULTS,
        help="where compare.md and compare.svg go (default bench/results)",
    )
    return parser.parse_args()


def main():
    """Does what was asked for: 0 when all could be measured, whether or not a ratio is met."""
    asked = arguments()
    # Whoever ends the comparison ends what it started, too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("bench/compare: ended"))
    machine.install()
    load = machine.build_load()
    binary = (asked.binary or machine.build()).resolve()
    binaries = {scenarios.OURS: binary} | ({scenarios.BEFORE: asked.baseline.resolve()} if asked.baseline else {})
    rounds, seconds = (1, 1) if asked.quick else (7, 4)
    plan = scenarios.Plan(binaries, asked.rounds or rounds, asked.seconds or seconds, load)
    # What this program does itself, it does where the generator is.
    os.sched_setaffinity(0, machine.cores()[1])

    if asked.cheats:
        cheats.find(binary, load)
        print("every way to cheat that is tried is found out")
        return 0
    return measure(asked, plan)


def measure(asked, plan):
    """Takes the samples of every scenario that was asked for, and writes what they tell."""
    faults = []
    results = {"scenarios": {}, "commands": {}}
    if asked.only and asked.json and asked.json.is_file():
        results = json.loads(asked.json.read_text())
    results["machine"] = machine.describe(plan.binaries)
    if asked.binary:
        results["machine"]["commit"] += " of this comparison; Portcullis was given as a binary"
    for name in asked.only or scenarios.ALL:
        say(f"{name}: {scenarios.ALL[name].__doc__.splitlines()[0].rstrip('.')}")
        try:
            samples = scenarios.ALL[name](plan)
        except Fault as fault:
            # The others may still be measured; what was seen here is not told.
            faults.append(f"{name} was not measured: {fault}")
            say(faults[-1])
            continue
        date = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC")
        results["scenarios"][name] = {
            "name": name,
            "date": date,
            "rounds": plan.rounds,
            "seconds": plan.seconds,
            "samples": samples,
        }
        results["commands"] |= plan.commands
        # After each: what was measured is kept if a later one fails.
        if asked.json:
            asked.json.write_text(json.dumps(results, indent=1))
    asked.output.mkdir(parents=True, exist_ok=True)
    (asked.output / "compare.md").write_text(report.write(results))
    (asked.output / "compare.svg").write_text(chart.draw(results))
    print(report.ratios(results))
    for fault in faults:
        say(fault)
    return 1 if faults else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except Fault as fault:
        sys.exit(f"bench/compare: {fault}")
    except KeyboardInterrupt:
        sys.exit("bench/compare: ended")
