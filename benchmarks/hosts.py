"""Training on hosts that this script makes: `python -m benchmarks.hosts DATASET [--ranks 1 2 4] [--preset fast]`.

A host is a network namespace (`ip netns`, as root) with one interface, a TUN device; this process is the wire between
them, which carries so many bits a second each way and takes its time (the kernel's netem does the same, where it is
compiled in). All hosts share the processor and the files of this machine. Each runs `c2f-dgl train`, with one thread
and clocks around its phases. DATASET is a name, a path, or USERSxITEMSxINTERACTIONS of `planted`. Writes
benchmarks/results/hosts/<data>.json.
"""

from __future__ import annotations

import fcntl
import heapq
import itertools
import json
import os
import resource
import select
import signal
import struct
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import measure
from c2f_dgl.cli.main import main as command_line
from c2f_dgl.io import ranks

ROOT = Path(__file__).parents[1]

# From linux/if_tun.h: the request that makes a device, for packets of IP without a header of its own.
_TUNSETIFF, _IFF_TUN, _IFF_NO_PI = 0x400454CA, 0x1, 0x1000

# The largest packet: a process that carries packets of 1,500 bytes would be the bottleneck.
_MTU = 65_000

# What is measured of each phase, and how many numbers and bytes the wire is tried with.
MEASURED = ("seconds", "processor seconds", "bytes sent", "exchanges", "seconds of exchanges")
_TRIES, _TRIED = 100, 2**26


class Wire(threading.Thread):
    """Carries packets between TUN devices (file descriptors), each of which sends and receives `rate` bits a second."""

    def __init__(self, devices: Sequence[int], rate: float, delay: float) -> None:
        super().__init__(daemon=True)
        self.devices, self.rate, self.delay, self.over = devices, rate, delay, threading.Event()

    def run(self) -> None:
        """Until `over` is set."""
        number, way = itertools.count(), list[tuple[float, int, int, bytes]]()
        sends, receives = ([0.0] * len(self.devices) for _ in range(2))  # when each is free again
        while not self.over.is_set():
            wait = min(max(way[0][0] - time.monotonic(), 0.0), 0.1) if way else 0.1
            for device in select.select(self.devices, [], [], wait)[0]:
                packet, now = os.read(device, 2**16), time.monotonic()
                if packet[0] >> 4 != 4:  # IPv6 looks for neighbours
                    continue
                source, to, seconds = packet[15] - 1, packet[19] - 1, 8 * len(packet) / self.rate
                sends[source] = max(now, sends[source]) + seconds
                receives[to] = max(sends[source] + self.delay, receives[to] + seconds)
                heapq.heappush(way, (receives[to], next(number), self.devices[to], packet))
            while way and way[0][0] <= time.monotonic():
                _, _, to, packet = heapq.heappop(way)
                with suppress(OSError):  # a link that is down loses it
                    os.write(to, packet)


@contextmanager
def hosts(n: int, rate: float = 1e9, delay: float = 1e-3) -> Iterator[list[str]]:
    """Names of n network namespaces, 10.77.0.1 and so on at their eth0, with `delay` seconds each way between them.

    Raises `OSError` or `subprocess.CalledProcessError` where they cannot be made; nothing of them stays.
    """
    names = [f"c2f-{os.getpid()}-{host}" for host in range(n)]
    with ExitStack() as stack:
        devices = []
        for host, name in enumerate(names):
            ip("netns", "add", name)
            stack.callback(ip, "netns", "del", name)
            device, interface = os.open("/dev/net/tun", os.O_RDWR), f"c2f{os.getpid()}.{host}"
            stack.callback(os.close, device)
            fcntl.ioctl(device, _TUNSETIFF, struct.pack("16sH22x", interface.encode(), _IFF_TUN | _IFF_NO_PI))
            devices.append(device)
            ip("link", "set", interface, "netns", name, "name", "eth0")
            ip("-n", name, "address", "add", f"10.77.0.{host + 1}/24", "dev", "eth0")
            ip("-n", name, "link", "set", "eth0", "mtu", str(_MTU), "up")
            ip("-n", name, "link", "set", "lo", "up")
        wire = Wire(devices, rate, delay)
        wire.start()
        stack.callback(wire.join)
        stack.callback(wire.over.set)
        yield names


def ip(*arguments: str) -> None:
    """The command of that name."""
    subprocess.run(["ip", *arguments], check=True, capture_output=True)


def started(names: Sequence[str], commands: Sequence[Sequence[str]], seconds: int = 600) -> list[subprocess.Popen[str]]:
    """A process of Python on each host, as a launcher starts the ranks."""
    common = {"WORLD_SIZE": len(names), "MASTER_ADDR": "10.77.0.1", "MASTER_PORT": 29500, "GLOO_SOCKET_IFNAME": "eth0"}
    common |= {ranks.SECONDS: seconds, "OMP_NUM_THREADS": 1, "OPENBLAS_NUM_THREADS": 1, "PYTHONPATH": ROOT}
    return [
        subprocess.Popen(
            ["ip", "netns", "exec", name, sys.executable, *command],
            cwd=ROOT,
            env=os.environ | {key: str(value) for key, value in {**common, "RANK": rank}.items()},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank, (name, command) in enumerate(zip(names, commands, strict=True))
    ]


def ended(processes: Sequence[subprocess.Popen[str]]) -> None:
    """Wait for processes, all of which have to succeed."""
    try:
        said = [process.communicate(timeout=1800) for process in processes]
    finally:
        for process in processes:
            process.kill()
    for process, (_, err) in zip(processes, said, strict=True):
        if process.returncode:
            raise RuntimeError(f"a rank ended with {process.returncode}: {err[-2000:]}")


class Phases:
    """What this process takes for each phase, without the phases inside of it."""

    def __init__(self) -> None:
        self.exchanges, self.waited, self.at = 0, 0.0, ["rest"]
        self.taken, self.times = dict[str, np.ndarray](), Counter[str]()
        self._last = self._now()

    def _now(self) -> np.ndarray:
        sent = Path("/sys/class/net/eth0/statistics/tx_bytes").read_text()
        return np.array([time.perf_counter(), time.process_time(), float(sent), self.exchanges, self.waited])

    def account(self) -> None:
        """Put what was taken since the last call down to the phase that is on."""
        now, phase = self._now(), self.at[-1]
        self.taken[phase], self._last = self.taken.get(phase, 0.0) + now - self._last, now

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """A phase; as a decorator every call of a function is one."""
        self.account()
        self.at.append(name)
        self.times[name] += 1
        try:
            yield
        finally:
            self.account()
            self.at.pop()

    @contextmanager
    def exchange(self) -> Iterator[None]:
        """One exchange between the ranks."""
        begun = time.perf_counter()
        yield
        self.exchanges, self.waited = self.exchanges + 1, self.waited + time.perf_counter() - begun


def rank(out: Path, arguments: list[str]) -> None:
    """One rank: `c2f-dgl` with arguments, and what it took for each phase, in a file."""
    phases = Phases()
    import torch.distributed as dist

    import c2f_dgl.training.run  # noqa: F401  # the functions below, under each name that they are called by
    from c2f_dgl.evaluation import ranking, sampling
    from c2f_dgl.graph import item_filter
    from c2f_dgl.tiers import spectral
    from c2f_dgl.training import comparison, solution

    for phase, function in {
        "solve": solution.solve,
        "singular values": spectral.nth_singular_value,
        "filter": item_filter.graph_filter,
        "ranking": sampling.evaluate_split,
        "ranking of the most popular": ranking.evaluate,
    }.items():
        clocked = phases.phase(phase)(function)
        for name, module in list(sys.modules.items()):
            if name.startswith("c2f_dgl.") and getattr(module, function.__name__, None) is function:
                setattr(module, function.__name__, clocked)
    for owner, name, phase in (
        (comparison.Comparison, "figures", "comparisons"),
        (comparison.Candidates, "ranked_first", "candidates"),
    ):
        setattr(owner, name, phases.phase(phase)(getattr(owner, name)))
    dist.broadcast, dist.all_reduce = phases.exchange()(dist.broadcast), phases.exchange()(dist.all_reduce)
    sys.argv = ["c2f-dgl", *arguments]
    try:
        command_line()
    finally:
        phases.account()
        taken = {
            phase: {"times": phases.times[phase], **dict(zip(MEASURED, values.tolist(), strict=True))}
            for phase, values in phases.taken.items()
        }
        peak = 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        out.write_text(json.dumps({"peak_bytes": peak, "phases": taken}))


def probe(out: Path) -> None:
    """What the exchanges of training take between these ranks: a large one, and one of a number."""
    import torch

    with ranks.joined():
        large, small = torch.zeros(_TRIED // 8, dtype=torch.float64), torch.zeros(1)
        seconds = []
        for exchange, times in ((lambda: ranks.of_first(large), 3), (lambda: ranks.gathered(small), _TRIES)):
            ranks.gathered(small)  # all begin at once
            begun = time.perf_counter()
            for _ in range(times):
                exchange()
            ranks.gathered(small)
            seconds.append((time.perf_counter() - begun) / times)
    out.write_text(json.dumps({"bytes a second": _TRIED / seconds[0], "seconds of a gather": seconds[1]}))


def measured(n: int, dataset: str, preset: str, rate: float, delay: float) -> dict[str, Any]:
    """What n hosts take to train, each of them, and what comes of it."""
    with measure.folder() as folder, hosts(n, rate, delay) as names:
        outs = [folder / f"{host}.json" for host in range(n)]

        def all_of(*arguments: str) -> list[Any]:
            module = ("-m", "benchmarks.hosts")
            ended(started(names, [(*module, arguments[0], str(out), *arguments[1:]) for out in outs]))
            return [json.loads(out.read_text()) for out in outs]

        wire = all_of("probe")[0] if n > 1 else None
        begun = time.perf_counter()
        of_ranks = all_of("rank", "train", dataset, "--preset", preset, "--out", str(folder / "run"))
        seconds = time.perf_counter() - begun
        summary = json.loads((folder / "run" / "summary.json").read_text())
        stage = summary["stages"][summary["chosen"]]
        taken = {"hosts": n, "wire": wire, "seconds": seconds, "load": round(os.getloadavg()[0], 2), "ranks": of_ranks}
        about = {key: summary[key] for key in ("data", "entities")}
        return {**taken, **about, **{key: stage[key] for key in ("valid", "test", "scalars")}}


def main(
    dataset: str, ranks: Sequence[int] = (1, 2, 4), preset: str = "fast", rate: float = 1e9, delay: float = 1e-3
) -> None:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that no host stays
    machine, rows = measure.machine(), []
    with measure.folder() as folder:
        if dataset.replace("x", "").isdigit():
            users, items, interactions = dataset.split("x")
            sizes = ["--users", users, "--items", items, "--interactions", interactions]
            dataset = str(folder / dataset)
            made = ["data", "planted", "--out", dataset, *sizes, "--coarse", "30", "--fine", "10"]
            subprocess.run([sys.executable, "-m", "c2f_dgl", *made], check=True)
        for n in ranks:
            rows.append(measured(n, dataset, preset, rate, delay))
            print(n, round(rows[-1]["seconds"], 1), rows[-1]["wire"], rows[-1]["test"]["ndcg@20"])
            record = {"data": rows[0]["data"], "preset": preset, "rate": rate, "delay": delay}
            print(measure.keep("hosts", rows[0]["data"], {**record, "rows": rows, "machine": machine}))


if __name__ == "__main__":
    if sys.argv[1] == "rank":
        rank(Path(sys.argv[2]), sys.argv[3:])
    elif sys.argv[1] == "probe":
        probe(Path(sys.argv[2]))
    else:
        measure.command(main)
