"""What the system says when a file of a volume, or a stream, cannot be read or written, as one clear line."""

import contextlib
from collections.abc import Iterator

from fmrd.errors import Failed


@contextlib.contextmanager
def told(what: str, hint: str = "") -> Iterator[None]:
    """Turn an OSError into Failed('io_error'); a pipe that nobody reads any more stays what it is."""
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        raise Failed("io_error", f"{what}: {error.strerror or error}", hint) from error
