"""Records of every kind, for hypothesis, and a few to start from."""

from dataclasses import replace
from uuid import UUID

from hypothesis import strategies as st

from fmrd.core.geometry import MAX_PAGES, PAGE_REGIONS
from fmrd.core.reasons import Reason
from fmrd.core.record import PlexRecord, Record, VolumeRecord
from fmrd.core.records.parts import Column, Failure, Kind, Link, Position, Taken
from fmrd.core.records.rows import Rows
from fmrd.core.stamps import PIECE_BYTES, Stamp, Sum
from fmrd.core.states import PlexState
from fmrd.dco import layout

counts = st.integers(0, (1 << 62) - 1)
uuids = st.uuids(version=4).map(str)
positions = st.builds(Position, uuids, counts)
paths = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1, max_size=30).map(
    lambda text: "/" + text
)

times = st.integers(-(1 << 62), 1 << 62)
sums = st.lists(st.builds(Sum, counts, st.integers(1, PIECE_BYTES), st.integers(0, (1 << 32) - 1)), max_size=3).map(
    tuple
)
stamps = st.builds(Stamp, counts, counts, times, content=sums) | st.builds(
    Stamp, counts, counts, times, times, since_ns=times, content=sums
)


failures = st.builds(
    Failure,
    st.sampled_from(["", "plex_hung"]),
    st.text(st.characters(categories=["L", "N", "P"]), max_size=200),
    st.none() | st.integers(0, 200),
    st.none() | st.floats(0, 1e12),
)


wide = st.just(()) | st.builds(
    lambda banks, grown: Rows(layout.COLUMNS, Rows(layout.COLUMNS).widened(banks, MAX_PAGES - 50)).grown(
        MAX_PAGES - 50 + grown
    ),
    st.integers(1, 8),
    st.integers(0, 50),
)
"""Rows of some banks, for the longest volume that can be."""


@st.composite
def plexes(draw: st.DrawFn, volume: str, number: int, uuid: str, column: int) -> PlexRecord:
    return PlexRecord(
        name=f"{volume}-{number:02d}",
        uuid=uuid,
        path=draw(paths),
        dco_path=draw(st.none() | paths),
        state=draw(st.sampled_from(PlexState)),
        map=Column(column, draw(counts)),
        has=draw(st.none() | positions),
        stamp=draw(st.none() | stamps),
        tail=draw(st.none() | counts),
        session=draw(st.booleans()),
        behind=draw(counts),
        reason=draw(st.sampled_from(Reason)),
        suspect=draw(st.booleans()),
        excluded=draw(st.booleans()),
        snap=draw(st.booleans()),
        failure=draw(st.none() | failures),
    )


@st.composite
def records(draw: st.DrawFn) -> Record:
    name = draw(st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,20}", fullmatch=True))
    number = draw(st.integers(0, 4))
    runs = draw(wide)
    columns = draw(st.permutations(range(Rows(layout.COLUMNS, runs).total)))
    owners = draw(st.lists(uuids, min_size=number, max_size=number, unique=True))
    region = 4096 << draw(st.integers(0, 4))
    volume = VolumeRecord(
        name=name,
        uuid=draw(uuids),
        length_bytes=4096 * draw(st.integers(1, 1 << 20)),
        region_bytes=region,
        extent_bytes=region << draw(st.integers(0, 6)),
        page_regions=PAGE_REGIONS,
        drl=Column(columns[0], draw(counts)),
        plexes=tuple(draw(plexes(name, n + 1, owners[n], columns[n + 1])) for n in range(number)),
        fmr=draw(st.booleans()),
        rdpol=draw(st.sampled_from(["select", "round", "prefer:v-01"])),
        io_timeout_seconds=draw(st.floats(0.1, 3600)),
        rate=draw(counts),
        auto_attach=draw(st.booleans()),
        hot_extents=draw(st.integers(1, 1 << 20)),
        stopped=draw(st.booleans()),
        next_plex=draw(counts),
        settled=draw(st.booleans()),
        comment=draw(st.text(st.characters(categories=["L", "N", "P"]), max_size=20)),
        taken=draw(st.none() | st.builds(Taken, st.floats(0, 1e12), st.sampled_from(Kind))),
    )
    snapshot = replace(
        volume, name="SNAP-" + name, uuid="00000000-0000-4000-8000-000000000001",
        drl=Column(columns[6], draw(counts)), plexes=(), snapshot_of=volume.name, settled=draw(st.booleans()),
        link=Link(*(Column(columns[n], draw(counts)) for n in range(7, 9 + draw(st.integers(0, 1))))),
    )  # fmt: skip
    return Record(
        family=draw(uuids),
        lineage=draw(uuids),
        sequence=draw(counts),
        volumes=(volume, *draw(st.sampled_from([(), (snapshot,)]))),
        history=tuple(draw(st.lists(positions, max_size=4))),
        columns=layout.COLUMNS,
        next_epoch=draw(counts),
        extra=draw(st.dictionaries(st.sampled_from(["later", "much_later"]), st.none() | st.integers() | st.text())),
        runs=runs,
    )


def some_record(sequence: int = 7) -> Record:
    """Two plexes, nothing special."""
    uuid = "00000000-0000-4000-8000-0000000000{:02d}".format
    plexes = tuple(
        PlexRecord(
            f"v-0{n}", uuid(n), f"/p{n}", None, PlexState.ACTIVE, Column(n, 1), Position(uuid(50), 6), Stamp(n, 9, 8)
        )
        for n in (1, 2)
    )
    volume = VolumeRecord("v", uuid(90), 1 << 30, 64 << 10, 4 << 20, PAGE_REGIONS, Column(0, 1), plexes)
    return Record(uuid(99), uuid(51), sequence, (volume,), (Position(uuid(50), 6),), next_epoch=2)


def with_plex(record: Record, **fields: object) -> Record:
    """Its first plex changed."""
    [first, *others] = record.volume.plexes
    plexes = (replace(first, **fields), *others)  # type: ignore[arg-type]  # checked by the dataclass
    return replace(record, volumes=(replace(record.volume, plexes=plexes),))


OWNER = str(UUID(int=7))
