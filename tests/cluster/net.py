"""Several hosts on one machine: network namespaces, and what can go wrong between them.

A namespace here has no name: it is a descriptor, and is gone with the last process in it.  So nothing
is left behind by a run that was killed, and runs beside each other do not meet.  setns() is for the
calling thread alone: `with host.inside():` makes its sockets and child processes those of the host.
Without root run.py starts itself again in a user namespace, where all of this is allowed.
"""
import contextlib
import ctypes
import os
import shutil
import socket
import subprocess

CLONE_NEWNET = 0x40000000
_libc = ctypes.CDLL(None, use_errno=True)


def _must(status):
    if status != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def _own_namespace():
    return os.open("/proc/thread-self/ns/net", os.O_RDONLY)


class Namespace:
    def __init__(self):
        home = _own_namespace()
        try:
            _must(_libc.unshare(CLONE_NEWNET))
            self.fd = _own_namespace()
            _must(_libc.setns(home, CLONE_NEWNET))
        finally:
            os.close(home)
        self.run("ip", "link", "set", "lo", "up")

    @contextlib.contextmanager
    def inside(self):
        home = _own_namespace()
        try:
            _must(_libc.setns(self.fd, CLONE_NEWNET))
            yield
        finally:
            _must(_libc.setns(home, CLONE_NEWNET))
            os.close(home)

    def run(self, *command, stdin=None):
        with self.inside():
            p = subprocess.run(command, input=stdin, capture_output=True, text=True, timeout=30)
        if p.returncode != 0:
            raise RuntimeError(f"{' '.join(command)}: {p.stderr.strip() or p.returncode}")
        return p.stdout

    @property
    def path(self):
        """A name of it for `ip link set ... netns`."""
        return f"/proc/{os.getpid()}/fd/{self.fd}"

    def close(self):
        os.close(self.fd)


class Machine:
    """This machine as it is: for loopback addresses where there are no namespaces."""

    inside = staticmethod(contextlib.nullcontext)

    def close(self):
        pass


class Host:
    """An address to listen on, and the namespace that has it."""

    def __init__(self, space, address, port, api_port):
        self.space, self.address = space, address
        self.port, self.api_port = port, api_port

    def inside(self):
        return self.space.inside()

    def connect(self, address, port, timeout):
        """A connection that begins at this host."""
        with self.inside():
            return socket.create_connection((address, port), timeout=timeout)


class Loopback:
    """127.0.0.1 ... 127.0.0.n of one namespace, or of the machine."""

    def __init__(self, n):
        self.space = Namespace() if possible() else Machine()
        self.hosts = []
        for i in range(n):
            port, api = (50051, 52415) if possible() else (_free_port(), _free_port())
            self.hosts.append(Host(self.space, f"127.0.0.{i + 1}", port, api))
        self.api_host = None  # the host's own address

    def close(self):
        self.space.close()


def _free_port():
    with socket.socket() as s:
        s.bind(("", 0))
        return s.getsockname()[1]


class Lan:
    """Hosts 10.77.0.1 ... 10.77.0.n, each with one cable to the same bridge.  Each serves its API on
    its own 127.0.0.1."""

    def __init__(self, n):
        self.switch = Namespace()
        self.switch.run("ip", "link", "add", "br0", "type", "bridge")
        self.switch.run("ip", "link", "set", "br0", "up")
        self.api_host = "127.0.0.1"
        self.hosts = [self._host(i) for i in range(n)]

    def _host(self, i):
        space = Namespace()
        self.switch.run("ip", "-batch", "-", stdin=(
            f"link add h{i} type veth peer name eth0\n"
            f"link set eth0 netns {space.path}\n"
            f"link set h{i} master br0\n"
            f"link set h{i} up\n"))
        space.run("ip", "-batch", "-", stdin=(
            f"addr add 10.77.0.{i + 1}/24 dev eth0\n"
            "link set eth0 up\n"))
        return Host(space, f"10.77.0.{i + 1}", 50051, 52415)

    def close(self):
        for host in self.hosts:
            host.space.close()
        self.switch.close()

    # ---- faults ----

    def cut(self, i):
        """The cable of host i is pulled."""
        self.switch.run("ip", "link", "set", f"h{i}", "down")

    def plug(self, i):
        self.switch.run("ip", "link", "set", f"h{i}", "up")

    def drop(self, i, j, share=1.0):
        """Packets from host i to host j are lost: all of them, or a share at random."""
        space, to = self.hosts[i].space, self.hosts[j].address
        rule = ["iptables", "-A", "OUTPUT", "-d", to]
        if share < 1:
            rule += ["-m", "statistic", "--mode", "random", "--probability", str(share)]
        space.run(*rule, "-j", "DROP")

    def pass_all(self, i):
        self.hosts[i].space.run("iptables", "-F", "OUTPUT")

    def rate(self, i, mbit):
        """What host i sends goes no faster than that."""
        self.hosts[i].space.run("tc", "qdisc", "replace", "dev", "eth0", "root", "tbf", "rate",
                                f"{mbit}mbit", "burst", "64kb", "latency", "400ms")


def can_drop():
    return shutil.which("iptables") is not None


_possible = None


def possible():
    """Whether this process may make namespaces; asked once."""
    global _possible
    if _possible is None:
        try:
            Namespace().close()
            _possible = True
        except (OSError, RuntimeError):
            _possible = False
    return _possible
