"""A supervisor is whoever started fmrd and keeps things for it: systemd with its descriptor store, or fmrd --keeper.

Both speak the protocols of sd_notify(3) and sd_listen_fds(3): a datagram tells that fmrd is ready, or carries
descriptors to be kept under a name; the next fmrd is started with these as 3, 4, ...
"""

import array
import logging
import os
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from fmrd.front.daemon import stand_in
from fmrd.front.daemon.stand_in import FIRST_DESCRIPTOR

log = logging.getLogger(__name__)


@dataclass
class Supervisor:
    """A supervisor listens at ``address``, "" for nobody. ``kept`` are descriptors, by name, that an fmrd before this
    one gave to be kept.
    """

    address: str = ""
    stores: bool = False
    """It has a descriptor store."""
    kept: dict[str, int] = field(default_factory=dict)

    def notify(self, message: str, descriptors: Sequence[int] = ()) -> bool:
        """Send a message. Return False where nobody asked to be told, or nobody listens any more."""
        if not self.address:
            return False
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", descriptors))] if descriptors else []
        address = "\0" + self.address[1:] if self.address.startswith("@") else self.address
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
                sender.sendmsg([message.encode()], rights, 0, address)
        except OSError as error:
            log.warning("the supervisor was not told %s: %s", message.replace("\n", " "), error)
            return False
        return True

    def keep(self, name: str, descriptor: int) -> bool:
        """Have a descriptor kept until ``forget``, or until what it stands for ends; one a name. False: it is not."""
        return self.stores and self.notify(f"FDSTORE=1\nFDNAME={name}", [descriptor])

    def forget(self, name: str) -> None:
        """Have it kept no more."""
        if self.stores:
            self.notify(f"FDSTOREREMOVE=1\nFDNAME={name}")

    def take(self, name: str) -> int | None:
        """Return a descriptor that was kept, or None; it is the caller's from now on."""
        return self.kept.pop(name, None)


def supervisor_of(environment: Mapping[str, str], process: int) -> Supervisor:
    """Return the supervisor that the environment of a process tells of; its descriptors may be for a parent of that."""
    address = environment.get("NOTIFY_SOCKET", "")
    kept: dict[str, int] = {}
    if environment.get("LISTEN_PID") == str(process):
        names = environment.get("LISTEN_FDNAMES", "").split(":")
        for index in range(int(environment.get("LISTEN_FDS", "0"))):
            descriptor = FIRST_DESCRIPTOR + index
            os.set_inheritable(descriptor, False)
            name = names[index] if index < len(names) else ""
            if name in kept:
                os.close(kept[name])
            kept[name] = descriptor
    return Supervisor(address, stand_in.is_wanted(environment), kept)
