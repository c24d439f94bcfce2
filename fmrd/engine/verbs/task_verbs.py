"""These are the verbs over tasks, and verify."""

from collections.abc import Sequence
from functools import partial

from fmrd.core.json_object import Json
from fmrd.engine.steering import choosing
from fmrd.engine.verbs.verb_base import VerbBase
from fmrd.engine.verify import verifying


class TaskVerbs(VerbBase):
    """This part of Verbs lists and steers tasks. Failed('task_missing') for one that is not known, ('task_ended')."""

    async def task_list(
        self, *, all: bool = False, volumes: Sequence[str] | None = None, tag: str | None = None,
        types: Sequence[str] | None = None,
    ) -> Json:  # fmt: skip
        """List the tasks that run, or all that are remembered: those of these volumes, this tag, these types.
        Failed('volume_missing') for one that neither is nor was there.
        """
        known = {*self.registry.units, *(task.volume for task in self.context.tasks.all())}
        for name in volumes or ():
            if name not in known:
                self.registry.unit(name)
        found = choosing.fitting(self.context.tasks, ended=all, volumes=volumes, tag=tag, types=types)
        return {"tasks": [task.json() for task in found]}

    async def task_get(self, *, id: int) -> Json:
        """Show one task."""
        return {"task": self.context.tasks.find(id).json()}

    async def task_pause(self, *, id: int | None = None, tag: str | None = None) -> Json:
        """Hold a task, or all of a tag; the map keeps what is left."""
        found = choosing.meant(self.context.tasks, id, tag)
        for task in found:
            task.pause()
        return choosing.answer(found, id)

    async def task_resume(self, *, id: int | None = None, tag: str | None = None) -> Json:
        """Let what is paused go on."""
        found = choosing.meant(self.context.tasks, id, tag)
        for task in found:
            task.resume()
        return choosing.answer(found, id)

    async def task_set(self, *, rate: int, id: int | None = None, tag: str | None = None) -> Json:
        """Keep a task, or each of a tag, to so many bytes a second; 0 is no limit of its own."""
        found = choosing.meant(self.context.tasks, id, tag)
        for task in found:
            task.set_rate(rate)
        return choosing.answer(found, id)

    async def task_abort(self, *, id: int | None = None, tag: str | None = None) -> Json:
        """Abort a task, or all of a tag, as if an error had occurred: the plex is STALE, its map kept. Return when they
        have ended.
        """
        found = choosing.meant(self.context.tasks, id, tag)
        units = [self.registry.units.get(task.volume) for task in found]
        services = [unit.service if unit is not None else None for unit in units]
        for task in found:
            task.abort()

        async def work() -> Json:
            for task, service in zip(found, services, strict=True):
                await task.finished.wait()
                plexes = service.volume.plexes if service is not None and not service.running.life.ended else ()
                plex = next((p for p in plexes if p.name == task.plex), None)  # none where others were faster
                if service is not None and plex is not None and plex.attaching:
                    await service.detach(plex)
            return choosing.answer(found, id)

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
        """Return what a verify found, in the order of the bytes; and how much of it only one plex holds just now."""
        task = self.context.tasks.find(id)
        found = list(verifying.report_of(task))
        return {"task": task.json(), "mismatches": found, "not_compared_regions": task.not_compared}

    async def task_wait(self, *, id: int) -> Json:
        """Return the task when it has ended. This is for tests and benchmarks; fmrctl asks for task_monitor."""
        task = self.context.tasks.find(id)
        await task.finished.wait()
        return {"task": task.json()}
