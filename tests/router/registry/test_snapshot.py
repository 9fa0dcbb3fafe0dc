"""The snapshot file: whole or not at all, for its owner only, and written without holding the loop."""

from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.registry.keeper import UNCONFIRMED, SnapshotKeeper
from router.registry.replica import Replica
from router.registry.snapshot import DamagedSnapshot, Header, collected, load, parse, save
from tests.router.registry.routers import DictSink
from tests.router.registry.test_writer import endpoint
from tests.router.wire import wait_until

HEADER = Header("0123456789abcdef", "17-4", 90.0, 1700000000.0)


def entries(count: int) -> dict[bytes, bytes]:
    return {f"r{n}.example.com {endpoint(n).address}".encode(): endpoint(n).to_json() for n in range(count)}


def written(path: Path, table: dict[bytes, bytes], header: Header = HEADER) -> bytes:
    async def write() -> None:
        await save(path, header, await collected(table))

    asyncio.run(write())
    return path.read_bytes()


@pytest.mark.parametrize("count", [0, 1, 5001])
def test_what_is_saved_is_loaded(tmp_path: Path, count: int) -> None:
    path = tmp_path / "data" / "routes"
    written(path, entries(count))
    header, found = load(path)
    assert header == HEADER
    assert dict(found) == entries(count)
    assert (path.stat().st_mode & 0o777, path.parent.stat().st_mode & 0o777) == (0o600, 0o700)
    assert [file.name for file in path.parent.iterdir()] == ["routes"]


def test_a_new_one_replaces_the_old(tmp_path: Path) -> None:
    written(tmp_path / "routes", entries(10))
    written(tmp_path / "routes", entries(3))
    assert len(load(tmp_path / "routes")[1]) == 3


def test_what_killed_writers_left_behind_is_removed(tmp_path: Path) -> None:
    old, new = tmp_path / "routes.1.new", tmp_path / "routes.2.new"
    for file in (old, new):
        file.touch()
    os.utime(old, (0, 0))
    written(tmp_path / "routes", entries(1))
    assert (old.exists(), new.exists()) == (False, True)


def test_every_truncation_is_refused(tmp_path: Path) -> None:
    whole = written(tmp_path / "routes", entries(3))
    for length in range(len(whole)):
        with pytest.raises(DamagedSnapshot):
            parse(whole[:length])


def test_every_flipped_byte_is_refused(tmp_path: Path) -> None:
    whole = written(tmp_path / "routes", entries(3))
    for place in range(len(whole)):
        damaged = bytearray(whole)
        damaged[place] ^= 0x11
        with pytest.raises(DamagedSnapshot):
            parse(bytes(damaged))


@given(st.binary(max_size=300))
def test_any_bytes_are_refused_in_words(text: bytes) -> None:
    with pytest.raises(DamagedSnapshot, match="it"):
        parse(text)


def test_saving_never_holds_the_loop(tmp_path: Path) -> None:
    table = entries(20_000)

    async def scenario() -> list[float]:
        gaps: list[float] = []

        async def watch() -> None:
            last = time.thread_time()
            while True:
                await asyncio.sleep(0)
                gaps.append(time.thread_time() - last)
                last = time.thread_time()

        watching = asyncio.create_task(watch())
        await save(tmp_path / "routes", HEADER, await collected(table))
        watching.cancel()
        return gaps

    gaps = sorted(asyncio.run(scenario()))
    assert gaps[len(gaps) * 999 // 1000] < 0.005, "measured in CPU time, since other programs may take the processor"


def run_keeper(path: Path, scenario: object) -> None:
    async def main() -> None:
        replica = Replica(DictSink(), asyncio.get_running_loop().time)
        keeper = SnapshotKeeper(path, replica, writes=True, every=1000.0)
        await scenario(keeper, replica)  # type: ignore[operator]

    asyncio.run(main())


def test_an_unchanged_table_is_not_written_again(tmp_path: Path) -> None:
    async def scenario(keeper: SnapshotKeeper, replica: Replica) -> None:
        await replica.fill(entries(2).items())
        await keeper.save_last(HEADER)
        first = keeper.path.stat().st_ino
        await keeper.save_last(HEADER)
        assert keeper.path.stat().st_ino == first
        await keeper.save_last(Header("0123456789abcdef", "18-0"))
        assert keeper.path.stat().st_ino != first

    run_keeper(tmp_path / "routes", scenario)


def test_a_short_table_is_written_again_soon_and_at_once_where_there_is_hurry(tmp_path: Path) -> None:
    async def scenario(keeper: SnapshotKeeper, replica: Replica) -> None:
        async def saved(version: str, later: float = 0.0) -> bool:
            await keeper.save_when_due(asyncio.get_running_loop().time() + later, Header("0123456789abcdef", version))
            await asyncio.to_thread(wait_until, lambda: not keeper.busy)
            return load(keeper.path)[0].version == version

        await replica.fill(entries(2).items())
        assert await saved("18-0")
        assert not await saved("19-0"), "not twice within SOONEST"
        keeper.hurry()
        assert await saved("19-0")
        assert await saved("19-0", later=500.0)
        assert await saved("20-0", later=500.0), "long before 1000 s are over, and looking in vain delays nothing"

    run_keeper(tmp_path / "routes", scenario)


def test_a_table_with_unconfirmed_entries_is_no_epochs_table(tmp_path: Path) -> None:
    async def scenario(keeper: SnapshotKeeper, replica: Replica) -> None:
        await replica.fill(entries(2).items())
        await replica.become({}, keep_until=float("inf"))
        await keeper.save_last(HEADER)
        header = await keeper.load()
        assert header is not None
        assert header.epoch == UNCONFIRMED

    run_keeper(tmp_path / "routes", scenario)


def test_damage_and_refused_writes_are_reported_and_lived_with(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("not a snapshot")

    async def damaged(keeper: SnapshotKeeper, replica: Replica) -> None:
        assert await keeper.load() is None
        assert replica.entries == {}

    async def refused(keeper: SnapshotKeeper, replica: Replica) -> None:
        await keeper.save_last(HEADER)

    run_keeper(tmp_path / "file", damaged)
    assert "is not used: it ends before its last line" in caplog.text
    run_keeper(tmp_path / "file" / "routes", refused)
    assert "cannot be written" in caplog.text
