"""Zeros on the way to a far plex: the server is told that their blocks stay."""

import re
from pathlib import Path

import pytest

from tests.e2e.harness import needs_program
from tests.engine.rig import REGION, SIZE, daemon
from tests.nbd_servers import nbdkit_file, serving
from tests.waiting import until

pytestmark = needs_program("nbdkit")
DISK = SIZE + (2 << 20)


@pytest.mark.parametrize("how", ["it lags", "it is copied"])
async def test_their_blocks_stay_the_servers(tmp_path: Path, how: str) -> None:
    (tmp_path / "far").mkdir()
    log = tmp_path / "asked"
    server = nbdkit_file(tmp_path / "far", DISK, "--filter=limit", "--filter=log", f"logfile={log}")
    server.query = "&x-fence=single"
    near = str(tmp_path / "near")
    with serving(server):
        async with daemon(tmp_path) as rig:
            await rig.verbs.make(volume="data", size_bytes=SIZE, plexes=[{"path": near}, {"path": server.uri}])
            await rig.end_all()
            await rig.data.write(3 * REGION, b"x" * REGION)
            if how == "it lags":
                await rig.verbs.set(volume="data", settings={"write_behind": f"data-02:{SIZE}"})
                await until(lambda: rig.service.volume.plexes[1].room > 0)
                await rig.data.write(3 * REGION, bytes(REGION))
                await until(lambda: not rig.service.volume.plexes[1].map.any())
            else:
                await rig.verbs.plex_det(volume="data", plex="data-02")
                await rig.data.make_zero(3 * REGION, REGION, punch=True)
                await rig.end((await rig.verbs.plex_att(volume="data", plex="data-02"))["task"])
            assert await rig.data.read(3 * REGION, REGION) == bytes(REGION)
            await rig.stop()
        image = (tmp_path / "far" / "disk.raw").read_bytes()
    assert image[3 * REGION : 4 * REGION] == bytes(REGION)
    asked = [line for line in log.read_text().splitlines() if re.search(rf"\bZero .*offset=0x{3 * REGION:x}\b", line)]
    assert asked and all("trim=0" in line for line in asked), log.read_text()
