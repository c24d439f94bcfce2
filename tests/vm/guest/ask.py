"""Ask fmrd over its socket: ``ask.py VERB ARGUMENTS-AS-JSON``; its last line is printed.

fmrctl says the same, but needs ten seconds here to be loaded.
"""

import socket
import sys


def main(verb: str, arguments: str) -> None:
    with socket.socket(socket.AF_UNIX) as daemon:
        daemon.connect("/run/fmrd/fmrd.sock")
        daemon.sendall(b'{"verb": "%s", "args": %s}\n' % (verb.encode(), arguments.encode()))
        with daemon.makefile("rb") as lines:
            print([*lines][-1].decode())


if __name__ == "__main__":
    main(*sys.argv[1:])
