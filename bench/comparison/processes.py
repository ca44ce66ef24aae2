"""Processes of a run: started on cores of their own, watched in /proc, and ended with the run."""

import os
import pathlib
import re
import shlex
import signal
import socket
import subprocess
import time

from .machine import Fault, find

TICK = 1 / os.sysconf("SC_CLK_TCK")

# Open files: connections on both sides of a proxy, twice. HAProxy refuses to start with fewer than its `maxconn` needs.
OPEN_FILES = 20000


class Process:
    """A program that runs on `cores` until it is stopped, or the run at `place` ends; ready once `ports` are open."""

    def __init__(self, place, name, command, cores, ports):
        self.name, self.cores, self._directory, self._ports = name, cores, place.path, list(ports)
        self.command = [str(part) for part in command]
        self._running = None
        place.processes.append(self)
        self.start()

    def start(self):
        """Starts it and waits until all of its ports are open."""
        listed = ",".join(str(core) for core in self.cores)
        log = self._directory / f"{self.name}.out"
        limit = f'ulimit -n {OPEN_FILES} 2>/dev/null; exec "$@"'
        with log.open("ab") as out:
            self._running = subprocess.Popen(
                ["/bin/sh", "-c", limit, "sh", find("taskset"), "-c", listed, *self.command],
                cwd=self._directory,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                process_group=0,
            )
        deadline = time.monotonic() + 60
        for port in self._ports:
            while not _open(port):
                if self._running.poll() is not None or time.monotonic() > deadline:
                    self.stop()
                    raise Fault(f"{self.name} did not start:\n{log.read_text(errors='replace')[-4000:]}")
                time.sleep(0.02)

    def stop(self):
        """Stops it and waits for its end."""
        if self._running is None:
            return
        self._running.send_signal(signal.SIGTERM)
        try:
            self._running.wait(10)
        except subprocess.TimeoutExpired:
            # A proxy that drains connections of a generator that is gone: its group is ours alone.
            os.killpg(self._running.pid, signal.SIGKILL)
            self._running.wait()
        self._running = None

    def restart(self):
        """Stops and starts it again, as it was."""
        self.stop()
        self.start()

    def pids(self):
        """It and its children, as masters have workers."""
        found, left = [], [self._running.pid]
        while left:
            pid = left.pop()
            found.append(pid)
            for children in pathlib.Path(f"/proc/{pid}/task").glob("*/children"):
                left += [int(child) for child in children.read_text().split()]
        return found

    def busy(self):
        """Seconds that the first of its cores has worked or was withheld, whoever it was for."""
        line = re.search(rf"^cpu{self.cores[0]} (.+)$", pathlib.Path("/proc/stat").read_text(), re.M)[1]
        user, nice, system, _idle, _wait, irq, softirq, steal, *_ = (int(field) for field in line.split())
        return (user + nice + system + irq + softirq + steal) * TICK

    def cpu(self):
        """Seconds of CPU, user and system, that all of its threads and children have used: since it began."""
        total = 0
        for pid in self.pids():
            # The name in parentheses may hold anything; what follows it is numbers.
            fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            total += int(fields[11]) + int(fields[12])
        return total * TICK

    def memory(self):
        """Resident bytes of it and its children."""
        return sum(_resident(pathlib.Path(f"/proc/{pid}")) for pid in self.pids())

    def told(self):
        """The command as a report shows it: without the directories of this machine."""
        local = (part.replace(str(self._directory), ".") for part in self.command)
        hidden = [re.sub(r"^/\S*/", "", part) for part in local]
        return f"taskset -c {','.join(str(core) for core in self.cores)} {shlex.join(hidden)}"


def _resident(process):
    """Counted page by page where that is allowed; a process that may not be looked into tells it within some pages."""
    try:
        return int(re.search(r"^Rss:\s+(\d+) kB", (process / "smaps_rollup").read_text(), re.M)[1]) * 1024
    except PermissionError:
        return int(re.search(r"^VmRSS:\s+(\d+) kB", (process / "status").read_text(), re.M)[1]) * 1024


def _open(port):
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) == 0
