"""What was read of a home copy when the daemon began, for all the volumes of its family that are opened then: with many
snapshots it is much, and to look each one's pages up again is as many reads of a few KiB.
"""

from fmrd.core.record import Record, VolumeRecord
from fmrd.dco.ledger import Ledger
from fmrd.dco.loading import Loaded


class Remembered:
    """It is as good as a read of now for a volume whose pages nobody has written since. Used on trio's thread."""

    def __init__(self, loaded: Loaded) -> None:
        self._loaded = loaded
        self._used = False

    def of(self, volume: VolumeRecord | None, ledger: Ledger | None) -> Loaded | None:
        """Return it if it holds what a start of the volume needs; None where that must be read."""
        if ledger is None:  # the first of them begins the ledger with it; after that others may have written
            used, self._used = self._used, True
            return None if used else self._loaded
        if ledger.home.begun_with is not self._loaded or ledger.last_record is None or volume is None:
            return None
        return self._loaded if _columns(ledger.last_record, volume).isdisjoint(ledger.home.touched) else None


def _columns(record: Record, volume: VolumeRecord) -> set[int]:
    return {column.index for column in record.columns_of(volume)}
