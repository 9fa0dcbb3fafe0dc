"""The ring: every endpoint once per key, evenly shared, and steady when endpoints come and go; what options may say."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from contextlib import suppress
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.hashing import MAX_HEADER, HashOptions, Ring

addresses = st.lists(st.integers(0, 99).map(lambda n: f"10.0.0.{n}:8080"), unique=True, min_size=1, max_size=12)
keys = st.binary(max_size=20)
MANY = [b"key-%d" % number for number in range(1000)]


def first(ring: Ring, names: list[str], key: bytes) -> str:
    return names[next(ring.order(key))]


class TestRing:
    @given(addresses, keys)
    def test_an_order_is_a_permutation(self, names: list[str], key: bytes) -> None:
        assert sorted(Ring(names).order(key)) == list(range(len(names)))

    @given(addresses, keys, st.randoms(use_true_random=False))
    def test_names_decide_not_their_order(self, names: list[str], key: bytes, random: Random) -> None:
        shuffled = list(names)
        random.shuffle(shuffled)
        assert [names[n] for n in Ring(names).order(key)] == [shuffled[n] for n in Ring(shuffled).order(key)]

    @given(addresses, keys, st.data())
    def test_who_leaves_changes_the_order_of_nobody_else(
        self, names: list[str], key: bytes, data: st.DataObject
    ) -> None:
        left = data.draw(st.sampled_from(names))
        rest = [name for name in names if name != left]
        before = [names[n] for n in Ring(names).order(key)]
        assert [rest[n] for n in Ring(rest).order(key)] == [name for name in before if name != left]

    def test_nobody_is_no_error(self) -> None:
        assert list(Ring([]).order(b"key")) == []

    @pytest.mark.parametrize("count", [2, 3, 5, 10, 20])
    def test_shares_are_even(self, count: int) -> None:
        names = [f"10.0.{count}.{n}:8080" for n in range(count)]
        ring = Ring(names)
        shares = Counter(first(ring, names, key) for key in MANY)
        assert min(shares[name] for name in names) > 0.5 * len(MANY) / count
        assert max(shares.values()) < 1.6 * len(MANY) / count

    @pytest.mark.parametrize("count", [2, 4, 9, 19])
    def test_who_joins_takes_about_its_share(self, count: int) -> None:
        names = [f"10.1.0.{n}:8080" for n in range(count + 1)]
        small, big = Ring(names[:-1]), Ring(names)
        moved = [key for key in MANY if first(small, names, key) != first(big, names, key)]
        assert {first(big, names, key) for key in moved} == {names[-1]}
        assert len(moved) < 1.6 * len(MANY) / (count + 1)

    def test_what_an_endpoint_loses_is_shared_by_all_others(self) -> None:
        names = [f"10.2.0.{n}:8080" for n in range(5)]
        ring = Ring(names)
        seconds = Counter(names[list(ring.order(key))[1]] for key in MANY if first(ring, names, key) == names[0])
        assert set(seconds) == set(names[1:])

    def test_all_processes_make_the_same_ring(self) -> None:
        """Whatever seed their hash() has."""
        program = "from router.hashing import Ring; print(list(Ring(['a:1', 'b:2', 'c:3', 'd:4']).order(b'key')))"
        outputs = {
            subprocess.run(
                [sys.executable, "-c", program], env={"PYTHONHASHSEED": seed, "PYTHONPATH": ":".join(sys.path)},
                capture_output=True, check=True
            ).stdout
            for seed in ("1", "2")
        }  # fmt: skip
        assert outputs == {f"{list(Ring(['a:1', 'b:2', 'c:3', 'd:4']).order(b'key'))}\n".encode()}


class TestOptions:
    @pytest.mark.parametrize(
        ("header", "balance", "read"),
        [
            ("X-Key", "", HashOptions(b"x-key", 0.0)),
            ("x-key", "0", HashOptions(b"x-key", 0.0)),
            ("Cookie", "0.0", HashOptions(b"cookie", 0.0)),
            ("X-Key", "1.1", HashOptions(b"x-key", 1.1)),
            ("X-Key", "10", HashOptions(b"x-key", 10.0)),
            ("X-Key", "2.5", HashOptions(b"x-key", 2.5)),
            ("x" * MAX_HEADER, "", HashOptions(b"x" * MAX_HEADER, 0.0)),
        ],
    )
    def test_valid(self, header: str, balance: str, read: HashOptions) -> None:
        assert HashOptions.read(header, balance) == read

    @pytest.mark.parametrize("header", ["", " ", "X Key", "X-Key:", "Schlüssel", "x" * (MAX_HEADER + 1), "X\r\nY"])
    def test_no_header(self, header: str) -> None:
        with pytest.raises(ValueError, match="hash_header"):
            HashOptions.read(header, "")

    @pytest.mark.parametrize("balance", ["1", "1.09", "10.01", "-1", "nan", "inf", "-inf", "x", "1,5", "1.5x"])
    def test_no_balance(self, balance: str) -> None:
        with pytest.raises(ValueError, match="hash_balance"):
            HashOptions.read("X-Key", balance)

    @given(st.text(), st.text())
    def test_nothing_else_is_raised(self, header: str, balance: str) -> None:
        with suppress(ValueError):
            options = HashOptions.read(header, balance)
            assert options.balance == 0 or 1.1 <= options.balance <= 10
            assert options.header == header.encode().lower()
