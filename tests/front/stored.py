"""Every command over stores, for what fmrctl --json prints (test_json_document.py)."""

from collections.abc import Awaitable, Callable
from typing import Any

from fmrd.core.json_object import Json
from tests.engine.rig import REGION, Rig


async def stores(fmrctl: Callable[..., Awaitable[Json]], rig: Rig) -> None:
    await fmrctl("store", "add", "s", "kept-here", "size=2M", "--dry-run")
    await fmrctl("store", "add", "s", "kept-here", "size=2M", "autogrow=+1M:3M", "high_water=50%")
    await fmrctl("store", "resize", "s", "2M", "--dry-run")
    await fmrctl("store", "resize", "s", "2M")
    await rig.data.write(0, b"1" * 60 * REGION)
    await fmrctl("snapshot", "data", "--instant", "--store", "s", "--name", "in-store")
    await fmrctl("snapback", "in-store", status=3)
    for first in (0, 20, 40):
        await rig.data.write(first * REGION, b"2" * 20 * REGION)
    events = await fmrctl("events", "--no-follow", "--since", "1h")
    told: list[Any] = [event["kind"] for event in events["events"]]
    assert told.index("store_grown") < told.index("store_filling") < told.index("snapshot_given_up")
    await fmrctl("store", "list")
    await fmrctl("stop", "in-store")
    await fmrctl("store", "print", "s")
    await fmrctl("store", "remove", "s", status=3)
    rig.path("kept-here").rename(rig.path("elsewhere"))
    await fmrctl("store", "print", "s")
    rig.path("elsewhere").rename(rig.path("kept-here"))
    await fmrctl("remove", "in-store", "--erase")
    await fmrctl("store", "remove", "s", "--dry-run")
    await fmrctl("store", "remove", "s")
    await fmrctl("store", "print", "s", status=1)
