"""librbd, by the modules of python3-rbd: the machine's own package, which no virtual environment has.

They are compiled for one version of Python, the machine's. Where fmrd runs in a virtual environment of that version
they are loaded from where the package has them, and nothing else is found there.
"""

import importlib
import importlib.machinery
import importlib.util
import sys
import threading
from collections.abc import Callable
from types import ModuleType
from typing import Any

from fmrd.errors import Failed, no_thread

WHERE = ("/usr/lib/python3/dist-packages",)
"""Where Debian's and Ubuntu's packages put modules."""
_LOCK = threading.Lock()

Module = Any
"""What a module without types has in it."""


def on_a_thread(run: Callable[[], None], name: str) -> None:
    """Have it run by a thread of its own, for which nobody waits at the end. Failed('exhausted')."""
    try:
        threading.Thread(target=run, name=name, daemon=True).start()
    except RuntimeError as error:
        raise no_thread(error) from error


def load(uri: object) -> tuple[Module, Module]:
    """Return the modules rados and rbd; Failed('plex_missing') where they cannot be had. On a worker thread."""
    with _LOCK:
        try:
            return _module("rados"), _module("rbd")
        except Exception as error:  # one that was built for another Python raises whatever it comes upon
            mine = f"{sys.version_info.major}.{sys.version_info.minor}"
            raise Failed(
                "plex_missing",
                f"{uri}: librbd cannot be used by this Python {mine}: {error}",
                "apt-get install python3-rbd; it is for the Python of the system, and fmrd must run on the same one",
            ) from error


def _module(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name != name:
            raise
    spec = importlib.machinery.PathFinder.find_spec(name, list(WHERE))
    if spec is None or spec.loader is None:
        raise ImportError(f"there is no module {name} of python3-{name} for it")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module
