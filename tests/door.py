"""A door that awaits, in the task of whoever asks: what tests ask of a volume."""

from fmrd.engine.served import Served
from fmrd.engine.serving import reading, requests


class Door:
    """Of one served volume. It takes the way of requests that have to be waited for, also where one need not be."""

    def __init__(self, served: Served) -> None:
        self.served = served
        self._mirror = served._running.mirror

    @property
    def length_bytes(self) -> int:
        return self.served.length_bytes

    def opened(self) -> None:
        self.served.opened()

    def released(self) -> None:
        self.served.released()

    async def read(self, offset: int, length: int) -> bytes:
        self.served._must_serve()
        return bytes(await requests.read(self._mirror, offset, length))

    async def write(self, offset: int, data: bytes) -> None:
        self.served._must_serve()
        await requests.write(self._mirror, offset, data)

    async def make_zero(self, offset: int, length: int, *, punch: bool) -> None:
        self.served._must_serve()
        await requests.make_zero(self._mirror, offset, length, punch=punch)

    async def seek(self, offset: int, *, data: bool) -> int:
        self.served._must_serve()
        return await reading.seek(self._mirror, offset, data=data)

    async def flush(self) -> None:
        self.served._must_serve()
        await requests.flush(self._mirror)
