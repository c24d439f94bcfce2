"""The verbs over tasks."""

from functools import partial

from fmrd.core.json_object import Json
from fmrd.engine.verbs.verb_base import VerbBase
from fmrd.engine.verify import verifying


class TaskVerbs(VerbBase):
    """A part of Verbs."""

    async def task_list(self, *, all: bool = False) -> Json:
        return {"tasks": [t.json() for t in self.context.tasks.all() if all or t.ended is None]}

    async def task_get(self, *, id: int) -> Json:
        return {"task": self.context.tasks.find(id).json()}

    async def task_pause(self, *, id: int) -> Json:
        task = self.context.tasks.find(id)
        task.pause()
        return {"task": task.json()}

    async def task_resume(self, *, id: int) -> Json:
        task = self.context.tasks.find(id)
        task.resume()
        return {"task": task.json()}

    async def task_set(self, *, id: int, rate: int) -> Json:
        task = self.context.tasks.find(id)
        task.set_rate(rate)
        return {"task": task.json()}

    async def task_abort(self, *, id: int) -> Json:
        """Backs out as if an error had occurred: the plex is STALE, its map kept."""
        task = self.context.tasks.find(id)
        unit = self.registry.units.get(task.volume)
        service = unit.service if unit is not None else None
        task.abort()

        async def work() -> Json:
            await task.finished.wait()
            plexes = service.volume.plexes if service is not None and not service.running.life.ended else ()
            plex = next((p for p in plexes if p.name == task.plex), None)  # none by now where others were faster
            if service is not None and plex is not None and plex.attaching:
                await service.detach(plex)
            return {"task": task.json()}

        return await self._apart(work)

    async def verify(
        self, *, volume: str, repair: bool = False, from_plex: str | None = None, rate: int | None = None
    ) -> Json:
        """Compare every copy, in the background."""
        service = self.registry.service(volume)
        source = None if from_plex is None else service.volume.plex(from_plex)
        changed = partial(self.registry.changed, volume)
        task, notice = verifying.begin(
            service.running, service.checksums, changed, repair=repair, source=source, rate=rate or 0
        )
        return {"task": task.json()} | ({"notice": notice} if notice else {})

    async def verify_report(self, *, id: int) -> Json:
        """What it found, in the order of the bytes; and how much of it only one plex holds just now."""
        task = self.context.tasks.find(id)
        found = list(verifying.report_of(task))
        return {"task": task.json(), "mismatches": found, "not_compared_regions": task.not_compared}

    async def task_wait(self, *, id: int) -> Json:
        task = self.context.tasks.find(id)
        await task.finished.wait()
        return {"task": task.json()}
