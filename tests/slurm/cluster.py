"""A Slurm of one machine: a controller and two nodes, started by hand.

No systemd, cgroups or accounting data base, and nothing of an existing Slurm or munge is touched,
but for one file: `/etc/slurm/slurm.conf` is a link to the configuration while the cluster runs,
since the executor plugin hides `SLURM_CONF` from the commands that it starts inside of a job.
"""

import fcntl
import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import TypeVar

import psutil

__all__ = ["NODES", "Cluster", "Unavailable", "install"]

T = TypeVar("T")
NODES = ("node1", "node2")
LINK = Path("/etc/slurm/slurm.conf")
PREFIX = "kahlervae-slurm-"
# Every process of the cluster and of its jobs inherits this variable: it says whose it is.
MARK = "KAHLERVAE_SLURM"
CONFIGURATION = """\
ClusterName=kahlervae
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller}
SlurmctldPidFile={folder}/slurmctld.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdPidFile={folder}/%n.pid
SlurmdLogFile={folder}/%n.log
SlurmdSpoolDir={folder}/%n
StateSaveLocation={folder}/state
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/none
SlurmdParameters=config_overrides
MpiDefault=none
ReturnToService=2
SlurmdTimeout=10
KillWait=2
NodeName={nodes[0]} NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[0]} CPUs=2 RealMemory=64000
NodeName={nodes[1]} NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[1]} CPUs=2 RealMemory=64000
PartitionName=all Nodes=ALL Default=YES
"""


class Unavailable(Exception):
    """Slurm cannot be run here; the message says why."""


def install() -> None:
    """Install Slurm and munge by apt-get where they are missing."""
    if os.geteuid() != 0:
        raise Unavailable("starting a Slurm needs root")
    if all(shutil.which(name) for name in ("slurmctld", "slurmd", "sbatch", "munged")):
        return
    if not shutil.which("apt-get"):
        raise Unavailable("Slurm is not installed, and there is no apt-get to install it with")
    environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    for command in (
        ["apt-get", "update"],
        ["apt-get", "install", "--yes", "--no-install-recommends", "slurm-wlm", "munge"],
    ):
        run = subprocess.run(command, env=environment, capture_output=True, text=True)
        if run.returncode != 0:
            raise Unavailable(f"`{' '.join(command)}` failed: {run.stderr.strip()}")


class Cluster:
    """The running cluster, as a context; ``environment`` leads the Slurm commands to it."""

    def __init__(self) -> None:
        self.folder = Path()
        self.environment: dict[str, str] = {}
        self.stack = ExitStack()

    def __enter__(self) -> "Cluster":
        with self.stack:
            self.claim()
            self.start()
            self.stack = self.stack.pop_all()
        return self

    def __exit__(self, *exception: object) -> None:
        self.stack.close()

    def claim(self) -> None:
        """Take the link, from a run that was killed if need be; never from a living one."""
        if LINK.is_symlink() and LINK.readlink().parent.name.startswith(PREFIX):
            stale = LINK.readlink().parent
            if stale.exists():
                with (stale / "lock").open("w") as lock:
                    try:
                        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    except BlockingIOError:
                        raise Unavailable("another run of these tests is under way") from None
                remove(stale)
            LINK.unlink()
        elif LINK.exists():
            raise Unavailable(f"this machine has a Slurm of its own: {LINK} exists")
        self.folder = Path(tempfile.mkdtemp(prefix=PREFIX))
        self.folder.chmod(0o755)
        self.stack.callback(remove, self.folder)
        lock = self.stack.enter_context((self.folder / "lock").open("w"))
        fcntl.flock(lock, fcntl.LOCK_EX)
        LINK.parent.mkdir(exist_ok=True)
        LINK.symlink_to(self.folder / "slurm.conf")
        self.stack.callback(LINK.unlink)

    def start(self) -> None:
        """Write the configuration, start the daemons and wait until the nodes take jobs."""
        controller, *ports = free_ports(1 + len(NODES))
        configuration = CONFIGURATION.format(
            folder=self.folder,
            host=socket.gethostname().partition(".")[0],
            controller=controller,
            nodes=NODES,
            ports=ports,
        )
        (self.folder / "slurm.conf").write_text(configuration)
        (self.folder / "munge.key").write_bytes(os.urandom(128))
        (self.folder / "munge.key").chmod(0o600)
        self.environment = {MARK: str(self.folder), "SLURM_CONF": f"{self.folder}/slurm.conf"}
        self.daemon(
            "munged", "--foreground", "--force", f"--key-file={self.folder}/munge.key",
            f"--socket={self.folder}/munge.socket", f"--pid-file={self.folder}/munged.pid",
            f"--log-file={self.folder}/munged.log", f"--seed-file={self.folder}/munged.seed",
        )  # fmt: skip
        self.wait("munge's socket", lambda: (self.folder / "munge.socket").exists())
        self.daemon("slurmctld", "-D")
        for name in NODES:
            self.daemon("slurmd", "-D", "-N", name, SLURMD_NODENAME=name)
        self.wait("two idle nodes", lambda: self.states() == dict.fromkeys(NODES, "idle"))

    def daemon(self, *command: str, **environment: str) -> None:
        """Start a daemon that ends with this process, however this process ends."""
        with (self.folder / "daemons.log").open("a") as log:
            subprocess.Popen(
                ["setpriv", "--pdeathsig", "KILL", *command],
                env=os.environ | self.environment | environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def slurm(self, *command: str) -> str:
        """Output of a Slurm command, empty where it fails."""
        environment = os.environ | self.environment
        return subprocess.run(command, env=environment, capture_output=True, text=True).stdout

    def states(self) -> dict[str, str]:
        """State of every node; a star means that it does not respond."""
        lines = self.slurm("sinfo", "--noheader", "--Node", "--format=%N %t").splitlines()
        return dict(line.split() for line in lines)

    def kill_node(self, name: str) -> None:
        """End a node as a loss of power would: its daemon and all that its jobs have started."""
        kill(self.folder, name)

    def wait(self, what: str, reached: Callable[[], T], timeout: float = 60) -> T:
        """What the function returns as soon as it is true."""
        deadline = time.monotonic() + timeout
        while not (result := reached()):
            if time.monotonic() > deadline:
                logs = "".join(
                    f"\n== {log.name}\n{log.read_text(errors='replace')[-2000:]}"
                    for log in sorted(self.folder.glob("*.log"))
                )
                raise AssertionError(f"waited {timeout:.0f} s for {what}{logs}")
            time.sleep(0.1)
        return result


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens at."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for free in sockets:
            free.bind(("127.0.0.1", 0))
        return [free.getsockname()[1] for free in sockets]


def processes(folder: Path, node: str | None = None) -> list[psutil.Process]:
    """Processes of the cluster in that folder and of its jobs, or those of one node."""
    found = []
    for process in psutil.process_iter():
        try:
            environment = process.environ()
            if process.name() == "slurmstepd":  # it overwrites its environment
                logs = {file.path for file in process.open_files()}
                its_own = any(
                    f"{folder}/{name}.log" in logs for name in NODES if node in (None, name)
                )
            else:
                its_own = environment.get(MARK) == str(folder) and (
                    node is None or environment.get("SLURMD_NODENAME") == node
                )
        except psutil.Error:
            continue
        if its_own:
            found.append(process)
    return found


def kill(folder: Path, node: str | None = None) -> None:
    """Kill the processes of the cluster in that folder and of its jobs, or those of one node."""
    while found := processes(folder, node):
        for process in found:  # by age: daemons before what they would report about
            with suppress(psutil.NoSuchProcess):
                process.kill()
        psutil.wait_procs(found, timeout=1)


def remove(folder: Path) -> None:
    """End everything that a cluster has started and delete its files."""
    kill(folder)
    shutil.rmtree(folder)
