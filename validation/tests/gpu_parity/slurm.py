"""A SLURM of one node, this machine: Debian's slurmctld, slurmd, slurm-client and munge."""

import os
import pwd
import secrets
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

_DAEMONS = ("munged", "slurmctld", "slurmd")
_PATH = f"{os.environ['PATH']}{os.pathsep}/usr/sbin"
_SECONDS = 30

_CONFIG = """
ClusterName=one
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ctld_port}
SlurmdPort={d_port}
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.sock
CredType=cred/munge
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
MpiDefault=none
ReturnToService=2
SlurmdParameters=config_overrides
NodeName={host} NodeAddr=127.0.0.1 CPUs=2 State=UNKNOWN
PartitionName=shards Nodes={host} Default=YES MaxTime=INFINITE State=UP
"""
"""slurm.conf(5): a node that is what it is said to be, without control groups or a name service."""


def is_installed() -> bool:
    """Whether Debian's packages are here."""
    return all(shutil.which(name, path=_PATH) for name in (*_DAEMONS, "srun", "sinfo"))


@contextmanager
def one_node() -> Iterator[dict[str, str]]:
    """Starts its daemons; gives the environment of commands that use it. Ends them at last.

    Raises:
        RuntimeError: the node is not idle after half a minute; the message has what they printed.
    """
    with tempfile.TemporaryDirectory() as name, ExitStack() as running:
        folder = Path(name)  # a short one: a socket's name has 108 characters at most
        (folder / "state").mkdir()
        (folder / "spool").mkdir()
        key = folder / "key"
        key.write_bytes(secrets.token_bytes(1024))
        key.chmod(0o400)
        host = socket.gethostname().partition(".")[0]
        ctld_port, d_port = _free_ports()
        config = folder / "slurm.conf"
        # A daemon of another user than root's serves that user alone, which is all that is wanted.
        user = pwd.getpwuid(os.getuid()).pw_name
        config.write_text(
            _CONFIG.format(host=host, ctld_port=ctld_port, d_port=d_port, user=user, folder=folder)
        )
        environment = {"SLURM_CONF": str(config), "PATH": _PATH}
        munge = ("munged", "--foreground", "--force", f"--key-file={key}")
        files = [f"--{each}-file={folder}/munged.{each}" for each in ("pid", "log", "seed")]
        commands = (
            (*munge, *files, f"--socket={folder}/munge.sock"),
            ("slurmctld", "-D", "-f", str(config)),
            ("slurmd", "-D", "-f", str(config)),
        )
        logs = [folder / f"{command[0]}.out" for command in commands]
        for command, log in zip(commands, logs, strict=True):
            running.enter_context(_daemon(command, log, environment))
        end = time.monotonic() + _SECONDS
        while _state(environment) != "idle":
            if time.monotonic() > end:
                said = "\n".join(log.read_text(errors="replace")[-2000:] for log in logs)
                raise RuntimeError(f"the node is {_state(environment)!r}, not idle: {said}")
            time.sleep(0.2)
        yield environment


@contextmanager
def _daemon(command: tuple[str, ...], log: Path, environment: dict[str, str]) -> Iterator[None]:
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, stdout=output, stderr=output, env=os.environ | environment
        )
    try:
        yield
    finally:
        process.terminate()
        process.wait()


def _state(environment: dict[str, str]) -> str:
    found = subprocess.run(
        ["sinfo", "--noheader", "--format", "%T"],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | environment,
    )
    return found.stdout.strip()


def _free_ports() -> tuple[int, int]:
    with socket.socket() as one, socket.socket() as other:
        for each in (one, other):
            each.bind(("", 0))
        return one.getsockname()[1], other.getsockname()[1]
