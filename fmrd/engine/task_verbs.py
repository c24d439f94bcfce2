"""The verbs over tasks."""

from fmrd.engine.verb_base import Json, VerbBase


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
        task.abort()

        async def work() -> Json:
            await task.finished.wait()
            service = self.registry.service(task.volume)
            plex = service.volume.plex(task.plex)
            if plex.attaching:
                await service.detach(plex)
            return {"task": task.json()}

        return await self._apart(work)

    async def task_wait(self, *, id: int) -> Json:
        task = self.context.tasks.find(id)
        await task.finished.wait()
        return {"task": task.json()}
