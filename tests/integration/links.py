"""Links that fail on purpose, between a transport and a real sshd: a TCP proxy that needs no
rights, and a wire of packets for root.

`Proxy`: resets, black holes, half-open connections, delay, a rate, a cut after so many bytes. It
ends TCP on both its sides: who talks into a black hole of it is acknowledged by the kernel and told
nothing, as by a frozen peer. `wire`: a network namespace behind two TUN devices; every packet is
carried late, or not at all, so TCP itself feels the distance and the loss. `tc … netem` would do
the same, but not every kernel has it. Skip with `why_no_wire()` where it says something.
"""

import asyncio
import contextlib
import fcntl
import os
import random
import select
import shutil
import socket
import struct
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Coroutine, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.integration.boxes import Sshd, running_sshd

UP, DOWN = "up", "down"
"""Towards the box; towards the laptop."""
FAULTS = ("reset", "black_hole", "half_open_up", "half_open_down", "box_gone", "laptop_gone")
CHUNK = 64 * 1024


# ---- the proxy ----


class Proxy:
    """A TCP proxy on loopback, with a thread of its own. Faults strike the connections that are
    there, and those to come until `heal`.

    `passed[UP]` and `passed[DOWN]` count bytes handed on; `accepted` counts connections.
    """

    def __init__(self, port: int, host: str = "127.0.0.1") -> None:
        self._target = (host, port)
        self.delay_seconds = 0.0  # one way
        self.bytes_per_second = 0.0  # no limit
        self.passed = {UP: 0, DOWN: 0}
        self.accepted = 0
        self._stalled: set[str] = set()
        self._strikes: dict[str, tuple[int, str]] = {}
        self.struck = threading.Event()
        """Set when a fault that waited for its byte has come."""
        self._links: set[_Link] = set()
        self._loop = asyncio.new_event_loop()
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        self._listener.setblocking(False)
        self.port: int = self._listener.getsockname()[1]
        self._thread = threading.Thread(target=self._run, name="proxy", daemon=True)
        self._thread.start()

    def transport_of(self, sshd: Sshd, **changes: object) -> Any:
        """A transport to `sshd` that goes through here."""
        return sshd.transport(port=self.port, **changes)

    def reset(self) -> None:
        """End every connection with RST, on both sides."""
        self.strike("reset")

    def black_hole(self) -> None:
        """Nothing passes any more, and nobody is told: connections that are there and that come are
        silent."""
        self.strike("black_hole")

    def half_open(self, silent: str = DOWN) -> None:
        """One direction is silent. With DOWN the box does what it is told, and the laptop never
        hears of it."""
        self.strike("half_open_up" if silent == UP else "half_open_down")

    def box_gone(self) -> None:
        """The box's ends are closed, the laptop's stay open and silent: a box that rebooted without
        a farewell."""
        self.strike("box_gone")

    def laptop_gone(self) -> None:
        """The laptop's ends are reset, the box's stay open and silent: a laptop that changed its
        network."""
        self.strike("laptop_gone")

    def cut_after(self, count: int, direction: str = DOWN) -> None:
        """Reset everything, once, after `count` more bytes in one direction; they are handed on
        before."""
        self.strike_after("reset", count, direction)

    def strike(self, fault: str) -> None:
        """One of FAULTS, now."""
        self._do(self._strike(fault))

    def strike_after(self, fault: str, count: int, direction: str = DOWN) -> None:
        """One of FAULTS, or a word of your own that does nothing here, once, after `count` more
        bytes in one direction, which are handed on before. `struck` tells when."""
        self.struck.clear()
        self._do(self._arm(fault, count, direction))

    def heal(self, resume: bool = False) -> None:
        """Connections to come are sound. Those that fell silent stay so, as with a router that
        forgot them, unless `resume`."""
        self._do(self._heal(resume))

    def close(self) -> None:
        """End it all."""
        self._do(self._close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(5)
        self._loop.close()

    def _do(self, work: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(10)

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._accepting = self._loop.create_task(self._accept())
        self._loop.run_forever()

    async def _accept(self) -> None:
        while True:
            laptop, _ = await self._loop.sock_accept(self._listener)
            self.accepted += 1
            link = _Link(self, laptop)
            link.stalled |= self._stalled
            self._links.add(link)
            link.start()

    async def _strike(self, fault: str) -> None:
        stalled = {"black_hole": {UP, DOWN}, "half_open_up": {UP}, "half_open_down": {DOWN}}.get(
            fault, set()
        )
        self._stalled |= stalled
        for link in list(self._links):
            link.stalled |= stalled
            if fault == "reset":
                link.end(abrupt=True)
            elif fault in ("box_gone", "laptop_gone"):
                link.abandon(UP if fault == "box_gone" else DOWN)

    async def _arm(self, fault: str, count: int, direction: str) -> None:
        self._strikes[direction] = (self.passed[direction] + count, fault)

    async def _heal(self, resume: bool) -> None:
        self._stalled.clear()
        self._strikes.clear()
        for link in self._links if resume else ():
            link.stalled.clear()
            link.moved.set()

    async def _close(self) -> None:
        self._accepting.cancel()
        self._listener.close()
        for link in list(self._links):
            link.end(abrupt=True)
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)

    def allowance(self, direction: str, size: int) -> int:
        """How many of `size` bytes may pass before a fault that waits."""
        waiting = self._strikes.get(direction)
        return min(size, max(0, waiting[0] - self.passed[direction])) if waiting else size

    async def passed_on(self, direction: str, size: int) -> None:
        """Count; and strike where that was asked for."""
        self.passed[direction] += size
        waiting = self._strikes.get(direction)
        if waiting and self.passed[direction] >= waiting[0]:
            self._strikes.clear()
            await self._strike(waiting[1])
            self.struck.set()

    def forget(self, link: "_Link") -> None:
        """A connection has ended."""
        self._links.discard(link)


class _Link:
    """One connection through the proxy: a laptop's socket and a box's, and the bytes between
    them."""

    def __init__(self, proxy: Proxy, laptop: socket.socket) -> None:
        self._proxy, self._laptop = proxy, laptop
        self._box: socket.socket | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self.stalled: set[str] = set()
        self.moved = asyncio.Event()

    def start(self) -> None:
        self._laptop.setblocking(False)
        self._tasks.append(asyncio.get_running_loop().create_task(self._live()))

    async def _live(self) -> None:
        while (
            UP in self.stalled
        ):  # a host that is not there answers no SYN; here the silence begins after it
            self.moved.clear()
            await self.moved.wait()
        loop = asyncio.get_running_loop()
        self._box = box = socket.socket()
        box.setblocking(False)
        try:
            await loop.sock_connect(box, self._proxy._target)
        except OSError:
            self.end(abrupt=True)
            return
        for each in (self._laptop, box):
            each.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        ways = [
            loop.create_task(self._carry(UP, self._laptop, box)),
            loop.create_task(self._carry(DOWN, box, self._laptop)),
        ]
        self._tasks += ways
        await asyncio.gather(*ways, return_exceptions=True)
        self.end()

    async def _carry(self, direction: str, source: socket.socket, target: socket.socket) -> None:
        under_way: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(64)
        loop = asyncio.get_running_loop()
        writing = loop.create_task(self._hand_on(direction, target, under_way))
        self._tasks.append(writing)
        try:
            while True:
                await self._passable(direction)
                try:
                    content = await loop.sock_recv(source, CHUNK)
                except OSError:
                    self.end(abrupt=True)
                    return
                await under_way.put((loop.time() + self._proxy.delay_seconds, content))
                if not content:
                    return
        finally:
            await writing

    async def _hand_on(
        self, direction: str, target: socket.socket, under_way: "asyncio.Queue[tuple[float, bytes]]"
    ) -> None:
        loop, proxy = asyncio.get_running_loop(), self._proxy
        while True:
            due, content = await under_way.get()
            await asyncio.sleep(max(0.0, due - loop.time()))
            if not content:
                await self._passable(direction)
                with contextlib.suppress(OSError):
                    target.shutdown(socket.SHUT_WR)
                return
            while content:
                await self._passable(direction)
                piece = content[: proxy.allowance(direction, len(content))]
                try:
                    await loop.sock_sendall(target, piece)
                except OSError:
                    self.end(abrupt=True)
                    return
                if proxy.bytes_per_second:
                    await asyncio.sleep(len(piece) / proxy.bytes_per_second)
                content = content[len(piece) :]
                await proxy.passed_on(direction, len(piece))

    async def _passable(self, direction: str) -> None:
        while direction in self.stalled:
            self.moved.clear()
            await self.moved.wait()

    def abandon(self, side: str) -> None:
        """Reset one end and leave the other open and silent."""
        self.stalled |= {UP, DOWN}
        for task in self._tasks:
            task.cancel()
        gone = self._box if side == UP else self._laptop
        if gone is not None:
            _close(gone, abrupt=True)

    def end(self, abrupt: bool = False) -> None:
        """Close both ends; `abrupt` with RST."""
        me = asyncio.current_task()
        for task in self._tasks:
            if task is not me:
                task.cancel()
        for end in (self._laptop, self._box):
            if end is not None:
                _close(end, abrupt)
        self._proxy.forget(self)


def _close(end: socket.socket, abrupt: bool) -> None:
    if end.fileno() < 0:
        return
    loop = asyncio.get_running_loop()
    loop.remove_reader(
        end.fileno()
    )  # else what waits there is removed later, when the number may be another socket's
    loop.remove_writer(end.fileno())
    with contextlib.suppress(OSError):
        if abrupt:
            end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        end.close()


@contextlib.contextmanager
def proxied(sshd: Sshd) -> Iterator[Proxy]:
    """A proxy before `sshd`, for the length of a block."""
    proxy = Proxy(sshd.port, sshd.host)
    try:
        yield proxy
    finally:
        proxy.close()


# ---- the wire ----

_TUNSETIFF, _TUNSETOFFLOAD = 0x400454CA, 0x400454D0
_IFF_TUN, _IFF_NO_PI, _IFF_VNET_HDR = 0x0001, 0x1000, 0x4000
_CSUM, _TSO4 = 0x01, 0x02
_LARGEST = 70_000


def why_no_wire() -> str:
    """Why this machine cannot make a wire; empty when it can."""
    if sys.platform != "linux" or os.geteuid() != 0:
        return "a network namespace needs root on Linux"
    if shutil.which("ip") is None:
        return "needs ip: apt-get install iproute2"
    if not os.access("/dev/net/tun", os.R_OK | os.W_OK):
        return "needs /dev/net/tun"
    probe = subprocess.run(["unshare", "--net", "true"], capture_output=True, check=False)
    return (
        ""
        if probe.returncode == 0
        else f"no network namespace may be made: {probe.stderr.decode().strip()}"
    )


@dataclass
class Wire:
    """A way of packets to a network namespace: this side has the address `here`, what runs in
    `namespace` has `there`."""

    namespace: str
    here: str
    there: str
    carrier: "subprocess.Popen[str]" = field(repr=False)

    @property
    def inside(self) -> tuple[str, ...]:
        """The words that run a command in the namespace."""
        return ("ip", "netns", "exec", self.namespace)

    def round_trip(self, seconds: float) -> None:
        """The time of a packet there and back, half of it each way."""
        self._tell(f"delay {seconds / 2}")

    def rate(self, bytes_per_second: float) -> None:
        """What each direction carries at most; 0 for no limit."""
        self._tell(f"rate {bytes_per_second}")

    def loss(self, share: float) -> None:
        """The share of packets lost in each direction."""
        self._tell(f"loss {share}")

    def black_hole(self) -> None:
        """No packet passes any more."""
        self._tell("drop up down")

    def half_open(self, silent: str = DOWN) -> None:
        """No packet passes in one direction."""
        self._tell(f"drop {silent}")

    def heal(self) -> None:
        """Packets pass again; connections go on where TCP has not given them up."""
        self._tell("drop")

    def _tell(self, words: str) -> None:
        assert self.carrier.stdin is not None and self.carrier.stdout is not None
        self.carrier.stdin.write(words + "\n")
        self.carrier.stdin.flush()
        assert self.carrier.stdout.readline() == "done\n"


@contextlib.contextmanager
def wire(round_trip: float = 0.0, rate: float = 0.0) -> Iterator[Wire]:
    """A wire for the length of a block; nothing of it is left. Needs root."""
    name = f"w{os.getpid()}x{os.urandom(2).hex()}"
    carrier = subprocess.Popen(
        [sys.executable, str(Path(__file__).resolve()), name],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[2])},
        start_new_session=True,
    )
    try:
        assert carrier.stdout is not None
        words = carrier.stdout.readline().split()
        assert words, "the carrier of the wire did not come up"
        made = Wire(name, words[0], words[1], carrier)
        made.round_trip(round_trip)
        made.rate(rate)
        yield made
    finally:
        with contextlib.suppress(OSError):
            carrier.stdin.close()  # type: ignore[union-attr]
        carrier.wait(10)
        carrier.stdout.close()  # type: ignore[union-attr]


@contextlib.contextmanager
def sshd_behind(link: Wire, folder: Path, *options: str) -> Iterator[Sshd]:
    """A real sshd in the wire's namespace."""
    with running_sshd(folder, *options, host=link.there, inside=link.inside) as server:
        yield server


def _carry(name: str) -> None:
    """The process that is the wire: it carries packets between two devices until its standard input
    ends."""
    subnet = _free_subnet()
    here, there = f"{subnet}.1", f"{subnet}.2"
    near, far = _tun(f"{name}h"[-15:]), _tun(f"{name}t"[-15:])
    devices = [f"{name}h"[-15:], f"{name}t"[-15:]]
    try:
        for words in (
            f"ip netns add {name}",
            f"ip link set {devices[1]} netns {name}",
            f"ip addr add {here}/30 dev {devices[0]}",
            f"ip link set {devices[0]} txqueuelen 20000 up",
            f"ip -n {name} addr add {there}/30 dev {devices[1]}",
            f"ip -n {name} link set {devices[1]} txqueuelen 20000 up",
            f"ip -n {name} link set lo up",
        ):
            subprocess.run(words.split(), check=True)
        print(here, there, flush=True)
        _Carrier(near, far).run()
    finally:
        os.close(near)
        os.close(far)
        subprocess.run(["ip", "netns", "del", name], check=False)


def _free_subnet() -> str:
    used = subprocess.run(
        ["ip", "-4", "-o", "addr"], capture_output=True, text=True, check=True
    ).stdout
    numbers = list(range(256))
    random.shuffle(numbers)
    return next(subnet for number in numbers if (subnet := f"10.213.{number}") + "." not in used)


def _tun(name: str) -> int:
    # Whole segments of TCP as its sender made them, up to 64 KB, pass with the header that says how
    # to cut them: that makes it quick.
    device = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(
        device,
        _TUNSETIFF,
        struct.pack("16sH22x", name.encode(), _IFF_TUN | _IFF_NO_PI | _IFF_VNET_HDR),
    )
    fcntl.ioctl(device, _TUNSETOFFLOAD, _CSUM | _TSO4)
    return device


class _Carrier:
    """Carries packets from each device to the other, when they are due."""

    def __init__(self, near: int, far: int) -> None:
        self._other = {near: far, far: near}
        self._names = {near: UP, far: DOWN}
        self._under_way: dict[int, deque[tuple[float, bytes]]] = {near: deque(), far: deque()}
        self._free_at = {near: 0.0, far: 0.0}
        self._delay = self._rate = self._loss = 0.0
        self._dropped: set[str] = set()
        self._chance = random.Random(7)

    def run(self) -> None:
        while True:
            due = [line[0][0] for line in self._under_way.values() if line]
            wait = max(0.0, min(due) - time.monotonic()) if due else 3600.0
            ready, _, _ = select.select([*self._other, sys.stdin], [], [], wait)
            if sys.stdin in ready and not self._told(sys.stdin.readline()):
                return
            for device in self._other:
                if device in ready:
                    self._take(device)
                self._deliver(device)

    def _take(self, device: int) -> None:
        for _ in range(64):
            try:
                packet = os.read(device, _LARGEST)
            except OSError:  # nothing more
                return
            if self._names[device] in self._dropped or (
                self._loss and self._chance.random() < self._loss
            ):
                continue
            due = time.monotonic()
            if self._rate:
                due = self._free_at[device] = (
                    max(due, self._free_at[device]) + len(packet) / self._rate
                )
            self._under_way[device].append((due + self._delay, packet))

    def _deliver(self, device: int) -> None:
        line, now = self._under_way[device], time.monotonic()
        while line and line[0][0] <= now:
            packet = line.popleft()[1]
            with contextlib.suppress(
                OSError
            ):  # a device that is down loses it, as a real one would
                os.write(self._other[device], packet)

    def _told(self, line: str) -> bool:
        word, *rest = line.split() or [""]
        if word == "drop":
            self._dropped = set(rest)
            for device, name in self._names.items():
                if name in self._dropped:
                    self._under_way[device].clear()
        elif word in ("delay", "rate", "loss"):
            setattr(self, f"_{word}", float(rest[0]))
        else:
            return False
        print("done", flush=True)
        return True


if __name__ == "__main__":
    _carry(sys.argv[1])
