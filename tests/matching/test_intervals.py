"""The interval tree against a list that is searched from end to end."""

from hypothesis import given
from hypothesis import strategies as st

from broker.matching.intervals import Intervals

ENDS = st.tuples(st.integers(0, 40), st.integers(0, 40)).map(lambda ends: (min(ends), max(ends)))


@given(st.lists(st.tuples(ENDS, st.booleans())))
def test_as_a_list_would(steps: list[tuple[tuple[int, int], bool]]) -> None:
    tree: Intervals[int] = Intervals()
    there: dict[int, tuple[int, int]] = {}
    for target, (ends, remove) in enumerate(steps):
        if remove and there:
            gone = min(there)
            tree.remove(*there.pop(gone), gone)
        else:
            there[target] = ends
            tree.add(*ends, target)
        for number in range(42):
            found: list[int] = []
            tree.find(number, found)
            assert sorted(found) == [key for key, (low, high) in there.items() if low <= number <= high]
    for key, ends in there.items():
        tree.remove(*ends, key)
    assert not tree


def test_wide_numbers() -> None:
    tree: Intervals[str] = Intervals()
    tree.add(0, 2**128 - 1, "all")
    tree.add(2**127, 2**127, "one")
    found: list[str] = []
    tree.find(2**127, found)
    assert sorted(found) == ["all", "one"]
