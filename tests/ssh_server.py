"""The real sshd on a port of its own, with keys of its own, and the real ssh told about them: no other is touched.

It is the system's, or the one that scripts/bootstrap unpacked into the virtual environment without installing it. Where
it wants a user and a directory that only its package makes, it gets them in a mount namespace that ends with it.
"""

import getpass
import os
import pwd
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.e2e.harness import until

UNPACKED = (Path(os.environ.get("FMRD_SSHD", "/nonexistent")), Path(sys.prefix) / "sshd")
"""Roots of openssh-server and libwrap0, as dpkg -x leaves them."""
SERVER = """\
Port {port}
ListenAddress 127.0.0.1
HostKey {where}/host_key
AuthorizedKeysFile {where}/user_key.pub
PidFile none
StrictModes no
UsePAM no
PasswordAuthentication no
KbdInteractiveAuthentication no
ClientAliveInterval 5
Subsystem sftp /bin/false
"""
CLIENT = """\
Host backup.example
  HostName 127.0.0.1
  Port {port}
  User {user}
Host *
  IdentityFile {where}/user_key
  IdentitiesOnly yes
  UserKnownHostsFile {where}/known_hosts
  GlobalKnownHostsFile /dev/null
"""
IN_A_NAMESPACE = """\
cp /etc/passwd "$1/passwd"
grep -q ^sshd: "$1/passwd" || echo 'sshd:x:65533:65533::/run/sshd:/bin/false' >>"$1/passwd"
mount --bind "$1/passwd" /etc/passwd && mkdir -p "$1/run/sshd" && mount --bind "$1/run" /run || exit 1
shift
exec "$@"
"""


def lacks() -> str:
    """What is not there that this needs; "" where all is."""
    if _sshd() is None:
        return "sshd"
    return ", ".join(each for each in ("ssh", "ssh-keygen", "nbdkit", "flock", "unshare") if not _which(each))


def _which(program: str) -> str | None:
    return shutil.which(program, path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")


def _sshd() -> tuple[str, str] | None:
    """Where it is, and where further libraries of it are; None where it is not."""
    for root in UNPACKED:
        if (root / "usr/sbin/sshd").exists():
            libraries = [str(each) for each in (*root.glob("usr/lib/*-linux-gnu"), *root.glob("lib/*-linux-gnu"))]
            return str(root / "usr/sbin/sshd"), ":".join(libraries)
    found = _which("sshd")
    return None if found is None else (found, "")


@contextmanager
def sshd(where: Path) -> Iterator[tuple[str, Path]]:
    """USER@HOST:PORT of it, and a directory with the ssh that knows its keys, for the PATH."""
    where.mkdir()
    where.chmod(0o700)
    found = _sshd()
    assert found is not None, "asked before"
    program, libraries = found
    for key in ("host_key", "user_key"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(where / key)], check=True)
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        port = listening.getsockname()[1]
    kind, key, *_ = (where / "host_key.pub").read_text().split()
    (where / "known_hosts").write_text(f"[127.0.0.1]:{port} {kind} {key}\n")
    (where / "sshd_config").write_text(SERVER.format(port=port, where=where))
    (where / "ssh_config").write_text(CLIENT.format(where=where, port=port, user=getpass.getuser()))
    ssh = where / "bin" / "ssh"
    ssh.parent.mkdir()
    ssh.write_text(f'#!/bin/sh\nexec {_which("ssh")} -F {where}/ssh_config "$@"\n')
    ssh.chmod(0o755)
    command = [program, "-D", "-e", "-f", str(where / "sshd_config")]
    if not os.geteuid() and not (_has_user() and Path("/run/sshd").is_dir()):
        command = ["unshare", "-m", "sh", "-c", IN_A_NAMESPACE, "sh", str(where), *command]
    environment = os.environ | ({"LD_LIBRARY_PATH": libraries} if libraries else {})
    with open(where / "log", "ab") as log:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment)
    try:
        until(lambda: _listens(process, port, where), "sshd listens")
        yield f"{getpass.getuser()}@127.0.0.1:{port}", ssh.parent
    finally:
        process.terminate()
        process.wait(20)


def _has_user() -> bool:
    try:
        pwd.getpwnam("sshd")
    except KeyError:
        return False
    return True


def _listens(process: "subprocess.Popen[bytes]", port: int, where: Path) -> bool:
    assert process.poll() is None, (where / "log").read_text()
    with socket.socket() as connection:
        return connection.connect_ex(("127.0.0.1", port)) == 0
