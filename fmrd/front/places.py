"""The daemon keeps its state, mounts volumes and answers here, unless told otherwise (README, "Where things are")."""

import os
from dataclasses import dataclass
from pathlib import Path

HOOKS = Path("/etc/fmrd/hooks.d")
"""What fmrd runs with each event (README, "Told")."""


@dataclass(frozen=True)
class Places:
    """These are the state directory, the mount point, and the control socket."""

    state: Path
    mount: Path
    socket: Path


def default_places() -> Places:
    """Return the system's places for root, a user's own XDG directories for everybody else."""
    if os.geteuid() == 0:
        return Places(Path("/var/lib/fmrd"), Path("/run/fmrd/volumes"), Path("/run/fmrd/fmrd.sock"))
    state = Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state") / "fmrd"
    runtime = Path(os.environ.get("XDG_RUNTIME_DIR") or f"/run/user/{os.geteuid()}") / "fmrd"
    return Places(state, runtime / "volumes", runtime / "fmrd.sock")


def a_path(text: str) -> Path:
    """Return a path as it is: click.Path asks the system about it, and a mount to be taken over would not answer."""
    return Path(text)
