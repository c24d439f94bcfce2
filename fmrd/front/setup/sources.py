"""Where what is not Python lies: units, scripts, documents. In a checkout at its root, of a wheel in share/fmrd."""

from importlib import metadata
from pathlib import Path

from fmrd.errors import Failed

MARK = "systemd/fmrd.service"
"""What is in every such folder."""


def sources() -> Path:
    """Return the folder. Failed('no_sources') where there is none: a package of the system puts all of it in place."""
    checkout = Path(__file__).parents[3]
    if (checkout / MARK).is_file():
        return checkout
    try:
        for file in metadata.files("fmrd") or ():
            if file.as_posix().endswith(f"share/fmrd/{MARK}"):
                return Path(str(file.locate())).resolve().parents[1]
    except metadata.PackageNotFoundError:
        pass
    raise Failed(
        "no_sources", "this fmrd came without its units and documents: a package of the system has put them in place"
    )
