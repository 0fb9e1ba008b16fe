"""Array consistency: values that a rule matches in one array must lie in one and the same element of it.

A `Place` is where a value lies: pairs of (array, element) from the outermost array in. A plain value in an array does
not name that array: `["a", "b"]` is two values of one field, both fit for anything; nor is an array named that has one
element only, for there is nothing to tell apart. Two places agree if they name the same element of every array both
name. Rules are matched a set of places at a time: what is known so far, joined with the places where the next field's
clause holds.
"""

from collections.abc import Iterable, Iterator

Place = tuple[tuple[int, int], ...]
ANYWHERE: Place = ()


class _Branch:
    """The places that go on from here: by the next array, by element. `ends`: the place that ends here."""

    __slots__ = ("arrays", "ends")

    def __init__(self) -> None:
        self.ends: Place | None = None
        self.arrays: dict[int, dict[int, _Branch]] = {}


class Places:
    """Places of one field's values, as a tree: who asks for those that agree walks no further than they go."""

    __slots__ = ("_root",)

    def __init__(self, places: Iterable[Place]) -> None:
        self._root = _Branch()
        for place in places:
            branch = self._root
            for array, element in place:
                elements = branch.arrays.setdefault(array, {})
                if element not in elements:
                    elements[element] = _Branch()
                branch = elements[element]
            branch.ends = place

    def agreeing(self, known: Place) -> Iterator[Place]:
        """Every place joined of `known` and one of these that agrees with it."""
        named = dict(known)
        stack = [self._root]
        while stack:
            branch = stack.pop()
            if branch.ends is not None:
                yield tuple(sorted((named | dict(branch.ends)).items()))
            for array, elements in branch.arrays.items():
                if array not in named:
                    stack.extend(elements.values())  # and what lies inside is not named either
                elif named[array] in elements:
                    stack.append(elements[named[array]])

    def agrees(self, known: Place) -> bool:
        return next(self.agreeing(known), None) is not None


def join(known: set[Place], places: Iterable[Place], relevant: frozenset[int]) -> set[Place]:
    """What is known and agrees with one of the places. Arrays that no later field lies in (`relevant` are the others)
    are dropped, and places that differed in nothing else become one: or two long arrays would multiply.
    """
    arrays = relevant.union(array for place in known for array, _ in place)
    candidates = Places(_within(place, arrays) for place in places)
    return {_within(place, relevant) for one in known for place in candidates.agreeing(one)}


def apart(known: set[Place], places: Iterable[Place], relevant: frozenset[int]) -> set[Place]:
    """What is known and agrees with none of the places: there the field is absent."""
    arrays = frozenset(array for place in known for array, _ in place)
    candidates = Places(_within(place, arrays) for place in places)
    return {_within(one, relevant) for one in known if not candidates.agrees(one)}


def _within(place: Place, arrays: frozenset[int]) -> Place:
    return tuple(pair for pair in place if pair[0] in arrays)
