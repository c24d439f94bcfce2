"""These are the verbs of a stream that is received: begin, note how far it is, take it over, or give it up."""

from collections.abc import Sequence
from dataclasses import replace

from fmrd.core.decisions import changes, snapback
from fmrd.core.json_object import Json
from fmrd.core.reasons import Reason
from fmrd.core.records.parts import Content, Receiving
from fmrd.core.states import TaskType
from fmrd.engine.maps import offers, receiving
from fmrd.engine.maps.holes import blank_in
from fmrd.engine.maps.offers import Offer
from fmrd.engine.opening.taking import PlexWish
from fmrd.engine.service import Service
from fmrd.engine.snapshots import pairs
from fmrd.engine.snapshots.breakoffs import Wish
from fmrd.engine.verbs.instant_verbs import InstantVerbs
from fmrd.errors import Refused

SUFFIX = ".received"


class ReceiveVerbs(InstantVerbs):
    """This part of Verbs receives streams. fmrctl reads and verifies them, and writes to the file of the snapshot."""

    async def receive_begin(
        self, *, volume: str, stream: str, snapshot: str, name: str, length_bytes: int, pristine: bool = False,
        increment: bool = False, bases: Sequence[str] = (), pristine_only: bool = False, source: str = "",
        region_size_bytes: int = 0, chunks: int = 0, offset_bytes: int = 0, chain: str = "", spool: str | None = None,
        force: bool = False, dry_run: bool = False,
    ) -> Json:  # fmt: skip
        """Make room for a stream, or go on with it. Refused('stream_unfit') where it does not lead from what the volume
        holds to what it says.
        """
        offer = Offer(
            stream, Content(snapshot, name, length_bytes, pristine), tuple(bases), pristine_only, increment, source,
            region_size_bytes, chunks, offset_bytes, chain,
        )  # fmt: skip
        service = self.registry.service(volume)

        async def work() -> Json:
            if offers.is_there(service.volume, offer):
                notice = f"nothing to change: volume {volume} holds {name} already"
                return {"notice": notice, "path": None}
            offers.must_fit(service.volume, offer)
            found = receiving.under_way(self.registry, volume)
            going = found.volume.settings.receiving if found is not None else None
            if offer.chunks or offer.chain:
                _, going = receiving.receiving_of(self.registry, volume, stream)
                offers.must_go_on(going, offer)
                return await self._begun(volume, going)
            begun = Receiving(stream, offer.content, source)
            if dry_run:
                given_up = f", and give up what has come of {going.content.name}" if going is not None else ""
                return {"notice": f"would receive {name} into volume {volume}{given_up}", "path": None}
            if found is not None:
                await receiving.discard(self.registry, found.unit)
            wish = PlexWish(spool or self._spool(service), None)
            await self._instant(
                Wish(volume, receiving.name_of(volume)), wish, (), force=force, sync=False, dry_run=False,
                receiving=begun, check=lambda volume: offers.must_fit(volume, offer),
            )  # fmt: skip
            return await self._begun(volume, begun)

        return await self._apart(work)

    async def restore_begin(
        self, *, volume: str, snapshot: str, spool: str | None = None, dry_run: bool = False
    ) -> Json:
        """Make room for what is put back from a snapshot that stays: it becomes the volume's by receive_commit. Refused
        ('volume_open') while the volume is open, ('receive_present') while a stream is received.
        """
        pair = pairs.pair_of(self.registry, snapshot)

        async def work() -> Json:
            receiving.must_be_of(pair, volume)
            snapback.check_length(pair.origin.volume, pair.volume, replica=True)
            if dry_run:
                return {"path": None}
            broken_off = receiving.under_way(self.registry, volume)
            if broken_off is not None:
                await receiving.discard(self.registry, broken_off.unit)
            stream = Receiving(self.context.new_uuid(), changes.content_of(pair.volume), partial=True)
            wish = PlexWish(spool or self._spool(pair.origin), None)
            await self._instant(
                Wish(volume, receiving.name_of(volume)), wish, (), force=False, sync=False, dry_run=False,
                receiving=stream,
            )  # fmt: skip
            return await self._begun(volume, stream)

        return await self._apart(work)

    async def _begun(self, volume: str, known: Receiving) -> Json:
        pair, _ = receiving.receiving_of(self.registry, volume)
        name = pair.unit.name
        return {
            "path": self._path(name), "into": name, **receiving.token_json(volume, known),
            "region_size_bytes": pair.volume.geometry.region_bytes,
            "turn": receiving.turn_of(pair),
            "blank": await blank_in(self.registry, pair.origin.running, pair.volume),
        }  # fmt: skip

    @staticmethod
    def _spool(service: Service) -> str:
        """Beside the first plex that is a file."""
        for plex in service.volume.open_plexes():
            opened = service.mirror.opened.get(plex.uuid)
            if opened is not None and not opened.backing.is_block:
                return plex.path + SUFFIX
        raise Refused(
            "spool_missing", f"no plex of volume {service.volume.name} is a file beside which the stream could go",
            "--spool PATH, with room for what the stream brings",
        )  # fmt: skip

    async def receive_progress(
        self, *, volume: str, stream: str, turn: str, chunks: int, offset_bytes: int, chain: str
    ) -> Json:  # fmt: skip
        """Make durable, and record, how far it has come. Failed('receive_lost') where it is not of that turn."""

        async def work() -> Json:
            pair, known = receiving.receiving_of(self.registry, volume, stream)
            await receiving.note(pair, replace(known, chunks=chunks, offset_bytes=offset_bytes, chain=chain), turn)
            return {"chunks": chunks}

        return await self._apart(work)

    async def receive_commit(
        self, *, volume: str, stream: str, turn: str, force: bool = False, rate: int | None = None
    ) -> Json:
        """All of it has come, and was verified: it becomes the volume's, in one commit. Failed('receive_lost')."""

        async def work() -> Json:
            pair, known = receiving.receiving_of(self.registry, volume, stream)
            tasks = await receiving.take(pair, known, turn, force=force, rate=rate or 0)
            if not tasks:
                reason = (Reason.NOTHING_MISSED, f"volume {volume} held the same bytes already")
                plex = pair.origin.volume.plexes[0].name
                tasks = [self.context.tasks.ended(TaskType.SNAPBACK, volume, plex, reason)]
                await pair.origin.copying.afterwards()
            return {"task": tasks[0].json(), "tasks": [task.json() for task in tasks], **self._volume(volume)}

        return await self._apart(work)

    async def receive_token(self, *, volume: str) -> Json:
        """Tell where a stream that was cut goes on. Failed('receive_missing')."""
        self.registry.service(volume)
        return receiving.token_json(volume, receiving.receiving_of(self.registry, volume)[1])

    async def receive_discard(self, *, volume: str, stream: str | None = None) -> Json:
        """Give up what has come of a stream, or of that one. Failed('receive_missing')."""

        async def work() -> Json:
            pair, _ = receiving.receiving_of(self.registry, volume, stream)
            left = await receiving.discard(self.registry, pair.unit)
            return self._volume(volume) | self._notice(left)

        return await self._apart(work)
