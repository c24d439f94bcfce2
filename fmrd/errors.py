"""Every failure that a user can meet is raised as one of these: with a stable code, an errno, an exit status and a
hint.

The class says how a program should react (its exit status), the code says what happened and never changes its meaning,
the message names the volume and the plex, the hint says what would help. Reason codes of a copy decision share the
table, so that ``fmrctl explain CODE`` answers for both.
"""

import errno as _errno


class FmrdError(Exception):
    """This failure was foreseen. ``code`` is a key of EXPLANATIONS, ``errno`` what a file operation returns."""

    exit_status = 1
    default_errno = _errno.EIO

    def __init__(self, code: str, message: str, hint: str = "", *, errno: int | None = None) -> None:
        assert code in EXPLANATIONS, f"error code {code!r} is not explained"
        super().__init__(message)
        self.code = code
        self.message = message
        self.hint = hint
        self.errno = errno or self.default_errno

    def __str__(self) -> str:
        return f"{self.code}: {self.message}"


class Failed(FmrdError):
    """It was tried and did not work."""


class PlexChanged(OSError):
    """A plex's file is not what fmrd made of it any more: somebody cut it, made it longer, or removed it. Then nothing
    that it holds is believed.
    """


class Answered(OSError):
    """The far side itself said so, of all that belongs to the call: it has ended there, which no other error on the way
    tells.
    """


class SourceError(Exception):
    """A copy failed on its reading side; ``error`` is the OSError of the source."""

    def __init__(self, error: OSError) -> None:
        super().__init__(str(error))
        self.error = error


class BadRequest(FmrdError):
    """The request makes no sense: usage, a name or a size that cannot be."""

    exit_status = 2
    default_errno = _errno.EINVAL


class Refused(FmrdError):
    """It could be done, and data might be lost or mixed. The hint names what would allow it."""

    exit_status = 3
    default_errno = _errno.EPERM


class Unreachable(FmrdError):
    """The daemon does not answer."""

    exit_status = 4
    default_errno = _errno.ECONNREFUSED


_LIMITS = {
    _errno.EMFILE: "fmrd has as many files open as it may (raise LimitNOFILE= in its unit, or ulimit -n)",
    _errno.ENFILE: "the machine has as many files open as it may (raise fs.file-max)",
    _errno.ENOMEM: "there is no memory left (MemoryMax= of the unit, or that of the machine)",
}


def is_exhaustion(error: BaseException | None) -> bool:
    """Is it about what this process or the machine has no more of? That is never a fact about a disk."""
    if isinstance(error, FmrdError):
        return error.code == "exhausted"
    return isinstance(error, OSError) and error.errno in _LIMITS


def failed_by(error: OSError) -> Failed:
    """The same error, for whoever asked."""
    if error.errno in _LIMITS:
        return Failed("exhausted", f"{error.strerror}: {_LIMITS[error.errno]}", "try again then: nothing was changed")
    return Failed("io_error", str(error))


def no_thread(error: Exception) -> Failed:
    """No thread could be had for a call."""
    hint = "raise TasksMax= in its unit, or ulimit -u"
    return Failed("exhausted", f"fmrd has as many threads as it may ({error})", hint)


EXPLANATIONS: dict[str, str] = {}
"""Code -> what it means and what to do. ``fmrd.explanations`` fills it, which is kept apart because it is prose."""

from fmrd import explanations as _explanations  # noqa: E402  (needs the table above)

EXPLANATIONS.update(_explanations.REASONS)
EXPLANATIONS.update(_explanations.ERRORS)
