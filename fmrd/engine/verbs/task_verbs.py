"""These are the verbs over tasks, and verify."""

from functools import partial

from fmrd.core.json_object import Json
from fmrd.engine.verbs.verb_base import VerbBase
from fmrd.engine.verify import verifying


class TaskVerbs(VerbBase):
    """This part of Verbs lists and steers tasks. Failed('task_missing') for one that is not known, ('task_ended')."""

    async def task_list(self, *, all: bool = False) -> Json:
        """List the tasks that run, or all that are remembered."""
        return {"tasks": [t.json() for t in self.context.tasks.all() if all or t.ended is None]}

    async def task_get(self, *, id: int) -> Json:
        """Show one task."""
        return {"task": self.context.tasks.find(id).json()}

    async def task_pause(self, *, id: int) -> Json:
        """Hold a task; the map keeps what is left."""
        task = self.context.tasks.find(id)
        task.pause()
        return {"task": task.json()}

    async def task_resume(self, *, id: int) -> Json:
        """Let a paused task go on."""
        task = self.context.tasks.find(id)
        task.resume()
        return {"task": task.json()}

    async def task_set(self, *, id: int, rate: int) -> Json:
        """Keep a task to so many bytes a second; 0 is no limit of its own."""
        task = self.context.tasks.find(id)
        task.set_rate(rate)
        return {"task": task.json()}

    async def task_abort(self, *, id: int) -> Json:
        """Abort a task, as if an error had occurred: the plex is STALE, its map kept. Return when it has ended."""
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
        """Return what a verify found, in the order of the bytes; and how much of it only one plex holds just now."""
        task = self.context.tasks.find(id)
        found = list(verifying.report_of(task))
        return {"task": task.json(), "mismatches": found, "not_compared_regions": task.not_compared}

    async def task_wait(self, *, id: int) -> Json:
        """Return the task when it has ended. This is for tests and benchmarks; fmrctl asks for task_monitor."""
        task = self.context.tasks.find(id)
        await task.finished.wait()
        return {"task": task.json()}
