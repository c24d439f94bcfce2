"""Data of a stream may be packed by zstd, where a module for it is there: Python's own (from 3.14), or zstandard."""

import importlib
from collections.abc import Callable
from typing import Any

from fmrd.errors import Failed

PLAIN, ZSTD = 0, 1
LEVEL = 3
MODULES = ("compression.zstd", "zstandard")


def is_there() -> bool:
    """Tell whether data can be packed by zstd here."""
    try:
        _module()
    except Failed:
        return False
    return True


def packer(name: str) -> Callable[[bytes], bytes]:
    """Return what packs so; Failed('stream_packing') where nothing here does."""
    if name != "zstd":
        raise Failed("stream_packing", f"nothing packs as {name!r} does; zstd is known")
    module = _module()
    if module.__name__ == "zstandard":
        pack: Callable[[bytes], bytes] = module.ZstdCompressor(level=LEVEL).compress
        return pack
    return lambda data: bytes(module.compress(data, LEVEL))


def unpack(payload: bytes, most: int) -> bytes:
    """Return what was packed, at most a byte more than ``most``. Failed('stream_damaged'), ('stream_packing')."""
    module = _module()
    try:
        if module.__name__ == "zstandard":
            with module.ZstdDecompressor(max_window_size=1 << 27).stream_reader(payload) as reader:
                return bytes(reader.read(most + 1))
        return bytes(module.ZstdDecompressor().decompress(payload, most + 1))
    except Exception as error:  # each module has an error of its own
        raise Failed("stream_damaged", f"the stream is damaged: a record cannot be unpacked ({error})") from error


def _module() -> Any:
    for name in MODULES:
        try:
            return importlib.import_module(name)
        except ImportError:
            continue
    raise Failed(
        "stream_packing", "the stream is packed by zstd, and there is no module for that here",
        "pip install 'fmrd[zstd]', or send without --compress",
    )  # fmt: skip
