"""A read policy chooses among several current plexes: VxVM's select, round and prefer."""

from collections.abc import Sequence

from fmrd.core.volume.plex import Plex
from fmrd.errors import BadRequest


def check_policy(policy: str) -> str:
    """Return ``select``, ``round`` or ``prefer:PLEX`` as it was given; BadRequest('bad_setting') for anything else."""
    if policy in ("select", "round") or (policy.startswith("prefer:") and len(policy) > len("prefer:")):
        return policy
    raise BadRequest("bad_setting", f"rdpol={policy} is none of select, round, prefer:PLEX")


class ReadPolicy:
    """A policy remembers where each plex's last read ended, so that a sequential reader stays on one disk."""

    def __init__(self, policy: str) -> None:
        self.policy = policy
        self._ended: dict[str, int] = {}
        self._turn = 0

    def choose(self, plexes: Sequence[Plex], offset_bytes: int, length_bytes: int) -> Plex:
        """Return one of ``plexes`` (not empty): one that is far, or may lag, only where ``prefer`` names it, or there
        is no other. ``round`` rotates with each read that does not go on where one ended; ``prefer`` falls back to
        select.
        """
        chosen = plexes[0] if len(plexes) == 1 else self._pick(plexes, offset_bytes)
        self._ended[chosen.uuid] = offset_bytes + length_bytes
        return chosen

    def leaves(self, plex: Plex, others: Sequence[Plex]) -> bool:
        """Tell whether a read that this plex serves so far goes on from one of the others: from a near one."""
        if not (plex.session or plex.behind) or self.policy[len("prefer:") :] in (plex.name, plex.path):
            return False
        return any(not (each.session or each.behind) for each in others)

    def _pick(self, plexes: Sequence[Plex], offset_bytes: int) -> Plex:
        if self.policy.startswith("prefer:"):
            for plex in plexes:
                if self.policy[len("prefer:") :] in (plex.name, plex.path):
                    return plex
        for plex in plexes:
            if plex.session or plex.behind:
                plexes = [each for each in plexes if not (each.session or each.behind)] or plexes
                break
        # select: the disk whose head is nearest. For a disk without heads that is as good as any other choice.
        nearest, least = plexes[0], -1
        for plex in plexes:
            distance = abs(self._ended.get(plex.uuid, 0) - offset_bytes)
            if not distance:
                return plex
            if distance < least or least < 0:
                nearest, least = plex, distance
        if self.policy == "round":
            self._turn += 1
            return plexes[self._turn % len(plexes)]
        return nearest
