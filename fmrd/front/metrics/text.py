"""Families of metrics become text here, piece by piece: to write all of thirty volumes takes longer than a request
should wait.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import trio
from prometheus_client.core import Metric
from prometheus_client.exposition import choose_encoder

from fmrd.engine.registry import Registry
from fmrd.front.metrics.families import families
from fmrd.front.metrics.gathering import gather

PIECE_SAMPLES = 96
"""So many lines are written in one step: about half a millisecond."""
END = b"# EOF\n"


@dataclass(frozen=True)
class _Piece:
    """What an encoder takes for a registry."""

    metric: Metric

    def collect(self) -> Iterator[Metric]:
        yield self.metric


async def written(registry: Registry, accept: str) -> tuple[bytes, str]:
    """Return all that is told just now, and its content type: OpenMetrics where ``accept``, a header of HTTP, names
    that, else Prometheus' own text.
    """
    encode: Callable[[Any], bytes]
    encode, kind = choose_encoder(accept)
    parts: list[bytes] = []
    last = ""
    for family in families(await gather(registry)):
        samples = family.samples
        for at in range(0, max(len(samples), 1), PIECE_SAMPLES):
            family.samples = samples[at : at + PIECE_SAMPLES]
            text = encode(_Piece(family)).removesuffix(END)
            parts.append(_without_head(text) if family.name == last else text)
            last = family.name
            await trio.lowlevel.checkpoint()
    return b"".join([*parts, END] if "openmetrics" in kind else parts), kind


def _without_head(text: bytes) -> bytes:
    """Another piece of the same family says only once what that is."""
    return b"".join(line for line in text.splitlines(keepends=True) if not line.startswith(b"# "))
