"""Requests share a round, and never one that had begun before they came."""

import trio
import trio.testing

from fmrd.dco.group_commit import Batch, GroupCommit
from fmrd.errors import Failed


class Rounds:
    """A round goes on until ``over``; ``served`` has the batches in the order of their rounds."""

    def __init__(self) -> None:
        self.group = GroupCommit(Batch)
        self.over = trio.Event()
        self.served: list[Batch] = []
        self.asked: list[Batch] = []

    async def ask(self) -> None:
        batch = self.group.next
        self.asked.append(batch)
        await self.group.served(batch, self.work)

    async def work(self, batch: Batch) -> None:
        self.served.append(batch)
        await self.over.wait()


async def test_who_comes_during_a_round_is_served_by_the_next() -> None:
    rounds = Rounds()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(rounds.ask)
        await trio.testing.wait_all_tasks_blocked()
        nursery.start_soon(rounds.ask)
        nursery.start_soon(rounds.ask)
        await trio.testing.wait_all_tasks_blocked()
        first, second, third = rounds.asked
        assert rounds.served == [first] and second is third is not first
        rounds.over.set()
    assert rounds.served[1] is second and len(rounds.served) == 2


async def test_an_error_is_told_to_all_of_the_round_and_to_no_other() -> None:
    group = GroupCommit(Batch)
    told: list[object] = []

    async def work(batch: Batch) -> None:
        await trio.lowlevel.checkpoint()
        if not told:
            raise Failed("home_failed", "no")

    async def ask() -> None:
        told.append(await group.served(batch, work))

    batch = group.next
    async with trio.open_nursery() as nursery:
        nursery.start_soon(ask)
        nursery.start_soon(ask)
    assert [str(error) for error in told] == [str(batch.error)] * 2 and batch.error is not None
    assert group.next is not batch and await group.served(group.next, work) is None


async def test_where_whoever_serves_goes_away_another_one_of_the_round_does() -> None:
    rounds = Rounds()
    leaving = trio.CancelScope()

    async def ask_and_leave() -> None:
        with leaving:
            await rounds.ask()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(ask_and_leave)
        await trio.testing.wait_all_tasks_blocked()
        batch = rounds.asked[0]
        nursery.start_soon(rounds.group.served, batch, rounds.work)
        nursery.start_soon(rounds.group.served, batch, rounds.work)
        await trio.testing.wait_all_tasks_blocked()
        assert len(rounds.served) == 1
        leaving.cancel()
        await trio.testing.wait_all_tasks_blocked()
        assert rounds.served == [batch, batch] and not batch.done
        rounds.over.set()
    assert batch.done
