"""The announced table on disk: what comes back from it, after how long."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest

from router.registry import snapshot
from router.sources.memory import Memory
from tests.router.sources.test_announced import THRESHOLD, Table, at


def remembered(path: Path, table: Table) -> Memory:
    return Memory(path, table, threshold=THRESHOLD)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Of a router that knew three endpoints."""
    table = Table()
    table.register(("a.com", "b.com/x"), at(1, app="x"))
    table.register(("a.com",), at(2, tls_port=443))
    path = tmp_path / "snapshot"
    asyncio.run(remembered(path, table).save())
    return path


def test_everything_comes_back_and_must_be_announced_again(file: Path) -> None:
    table = Table()
    asyncio.run(remembered(file, table).load())
    assert table.mirror.records == {
        ("a.com", "10.0.0.1:80"): at(1, app="x").to_json(),
        ("b.com/x", "10.0.0.1:80"): at(1, app="x").to_json(),
        ("a.com", "10.0.0.2:443"): at(2, tls_port=443).to_json(),
    }
    table.register(("a.com", "b.com/x"), at(1, app="x"), key=b"m")
    table.now += THRESHOLD + 1
    assert table.refresh(b"m")
    assert [each.address for each in table.overdue_now()] == ["10.0.0.2:443"]


def test_after_a_long_absence_plain_addresses_may_be_others(file: Path) -> None:
    header, entries = snapshot.load(file)
    old = snapshot.Header(header.epoch, written_at=time.time() - THRESHOLD - 60)
    asyncio.run(snapshot.save(file, old, [entries]))
    table = Table()
    asyncio.run(remembered(file, table).load())
    assert list(table.mirror.records) == [("a.com", "10.0.0.2:443")]


@pytest.mark.parametrize("text", [None, b"", b"nonsense"])
def test_without_a_usable_snapshot_the_table_is_empty(tmp_path: Path, text: bytes | None) -> None:
    path = tmp_path / "snapshot"
    if text is not None:
        path.write_bytes(text)
    table = Table()
    asyncio.run(remembered(path, table).load())
    assert table.routes() == []


def test_entries_that_cannot_be_are_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "snapshot"
    entries = [(b"a.com 10.0.0.9:80", at(1).to_json()), (b"b.com 10.0.0.1:80", at(1).to_json())]
    asyncio.run(snapshot.save(path, snapshot.Header("x"), [entries]))
    table = Table()
    asyncio.run(remembered(path, table).load())
    assert table.routes() == ["b.com"]


def test_what_did_not_change_is_not_written_again(file: Path) -> None:
    table = Table()
    memory = remembered(file, table)
    asyncio.run(memory.load())
    file.unlink()
    table.register(("a.com",), at(1, app="x"))
    asyncio.run(memory.save())
    assert not file.exists()
    table.register(("a.com",), at(1, app="y"))
    asyncio.run(memory.save())
    assert file.exists()


def test_it_is_written_at_the_end(tmp_path: Path) -> None:
    table = Table()
    path = tmp_path / "snapshot"

    async def test() -> None:
        task = asyncio.create_task(remembered(path, table).run())
        await asyncio.sleep(0)
        table.register(("a.com",), at(1))
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    asyncio.run(test())
    assert len(snapshot.load(path)[1]) == 1


def test_a_disk_that_fails_is_reported_and_lived_with(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    table = Table()
    table.register(("a.com",), at(1))
    (tmp_path / "file").write_text("")
    asyncio.run(remembered(tmp_path / "file" / "snapshot", table).save())
    assert [record.getMessage() for record in caplog.records] == ["routes-snapshot-not-written"]
