"""Random patterns and events: the index gives what the naive matcher gives for each pattern by itself.

Many patterns in one index, added and removed between events; a pattern's answer must not depend on its company.
"""

from random import Random

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from broker.matching import Index, event_pattern

from . import generate, naive

SETTINGS = settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
RANDOM = st.integers(0, 2**32 - 1).map(Random)


@SETTINGS
@given(RANDOM)
def test_one_pattern(rng: Random) -> None:
    pattern, events = generate.pattern_and_events(rng, 8)
    index: Index[int] = Index()
    index.add(1, event_pattern(pattern, **generate.NO_LIMITS))
    for event in events:
        assert index.match(event) == ({1} if naive.matches(pattern, event) else set()), (pattern, event)
    index.remove(1)
    assert index.match(events[0]) == set()


@settings(SETTINGS, max_examples=25)
@given(RANDOM)
def test_many_patterns(rng: Random) -> None:
    made = [generate.pattern_and_events(rng, 2) for _ in range(30)]
    index: Index[int] = Index()
    for key, (pattern, _) in enumerate(made):
        index.add(key, event_pattern(pattern, **generate.NO_LIMITS))
    gone = set(rng.sample(range(len(made)), 15))
    for key in gone:
        index.remove(key)
    for _, events in made:
        for event in events:
            expected = {k for k, (pattern, _) in enumerate(made) if k not in gone and naive.matches(pattern, event)}
            assert index.match(event) == expected, event


class AddedAndRemoved(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.index: Index[int] = Index()
        self.patterns: dict[int, generate.Pairs] = {}

    @rule(rng=RANDOM, key=st.integers(0, 9))
    def add(self, rng: Random, key: int) -> None:
        self.patterns[key] = generate.pattern_object(rng)
        text = generate.dumps(self.patterns[key])
        self.index.add(key, event_pattern(text, **generate.NO_LIMITS))

    @rule(choice=st.randoms(use_true_random=False))
    def remove(self, choice: Random) -> None:
        if self.patterns:
            key = choice.choice(sorted(self.patterns))
            del self.patterns[key]
            self.index.remove(key)

    @rule(rng=RANDOM)
    def match(self, rng: Random) -> None:
        suited = self.patterns and rng.random() < 0.8
        made = generate.answer(rng, self.patterns[rng.choice(sorted(self.patterns))]) if suited else None
        event = generate.dumps(made) if made is not None else generate.event(rng)
        expected = {key for key, pairs in self.patterns.items() if naive.matches(generate.dumps(pairs), event)}
        assert self.index.match(event) == expected, event

    @invariant()
    def nothing_is_left_behind(self) -> None:
        assert len(self.index) == len(self.patterns)
        if not self.patterns:
            root = self.index._root
            assert (root.children, root.fields, root.below, root.keys) == ({}, {}, {}, set())
            assert self.index._reader._root.children == {}


TestAddedAndRemoved = AddedAndRemoved.TestCase
TestAddedAndRemoved.settings = settings(
    max_examples=20, stateful_step_count=20, deadline=None, suppress_health_check=list(HealthCheck)
)
