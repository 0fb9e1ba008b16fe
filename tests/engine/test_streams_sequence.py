"""Sequence numbers and tokens: the form of AWS's, checked on numbers that AWS gave and as its client library reads."""

from __future__ import annotations

from itertools import pairwise

import pytest

from broker.streams import sequence, tokens
from engine.stream_support import START_MS, StreamEngine, outcome_of

# Numbers of real shards, as users have posted them: the second of birth, the index, the count, the second of arrival.
OF_AWS = [
    ("49546986683135544286507457935754639466300920667981217794", 1421279230, 0, 0, 1421279230),
    ("49546986683135544286507457936321625675700192471156785154", 1421279230, 0, 0x1D5, 1421279386),
    ("49674026002850188218576229259473476449429298564223254594", 0x69EFBD45, 0xC04, 0x50CCB9D26, 0x69EFC052),
    ("49670023483232461788730612813735157811693693431491592722", 0x6944931C, 0x21, 0x334F2572C, 0x69452BBF),
]


@pytest.mark.parametrize(("number", "born_s", "index", "position", "moment_s"), OF_AWS)
def test_numbers_are_of_the_form_of_aws(number: str, born_s: int, index: int, position: int, moment_s: int) -> None:
    assert str(sequence.number(born_s, index, position, moment_s)) == number
    assert sequence.read(number) == (born_s, index, position, False)


def read_as_kcl(number: str) -> tuple[int, str] | None:
    """SequenceNumberValidator of the Kinesis Client Library, version 3: version and shard id."""
    value = int(number)
    if value.bit_length() != 186 or value >> 184 & 15 != 2:
        return None
    return value >> 184 & 15, f"shardId-{value >> 4 & 0xFFFFFFFF:012d}"


def test_the_client_library_finds_the_shard_in_each_number() -> None:
    engine = StreamEngine()
    stream = engine.create(shards=20)
    engine.shards.update_count(stream, 40)
    for shard in stream.shards.values():
        for number in (shard.starting_sequence_number, shard.ending_sequence_number):
            if number is not None:
                assert len(number) == 56
                assert read_as_kcl(number) == (2, shard.shard_id)
    for put in engine.put_all(stream, *((f"k{number}", "x") for number in range(100))):
        assert read_as_kcl(put[1]) == (2, put[0])
    engine.close()


def test_golden_numbers() -> None:
    engine = StreamEngine()
    stream = engine.create(shards=2)
    engine.advance(2500)
    assert [shard.starting_sequence_number for shard in stream.open_shards] == [
        "49646437577108476416916876405825929425585429676275269634",
        "49646437577130777162115407028967465143858078037781250066",
    ]
    assert [put.sequence_number for put in engine.put(stream, "a", "b", "c", key="k")] == [
        "49646437577130777162115407028968674069677692804394909714",
        "49646437577130777162115407028969882995497307433569615890",
        "49646437577130777162115407028971091921316922062744322066",
    ]
    engine.shards.split(stream, "shardId-000000000000", str(1 << 126))
    assert stream.shards[0].ending_sequence_number == "49646437577119626789516141717395488358902139365292507138"
    engine.close()


def test_numbers_grow_within_a_second_and_across_it() -> None:
    numbers = [
        sequence.number(100, 3, position, moment_s) for moment_s in (100, 101) for position in range(moment_s - 90)
    ]
    with_place_after = sorted({*numbers, *map(sequence.after, numbers)})
    for number, following in pairwise(with_place_after):
        if sequence.read(str(number)) is not None and following == sequence.after(number):
            assert following < number + sequence.ONE


@pytest.mark.parametrize(
    "text",
    ["", "1", "01", "x", "-1", "1" * 56, "9" * 56, str(1 << 185), str(3 << 184 | 2), str((2 << 184) | 3), "1" * 200],
)
def test_what_is_no_number_of_a_shard(text: str) -> None:
    assert sequence.read(text) is None


def test_iterators_are_opaque_signed_and_of_one_stream() -> None:
    secret = "0123456789abcdef" * 2
    text = tokens.make_iterator(secret, 3, 1 << 40, START_MS)
    assert text.startswith("AAAAAAAAAAE")
    assert len(text) < 512
    read = tokens.read_iterator(text)
    assert read is not None
    assert read[0] == (0x0123456789ABCDEF, 3, 1 << 40, START_MS)
    assert tokens.is_signed(read[1], secret)
    assert not tokens.is_signed(read[1], secret[::-1])
    assert tokens.read_iterator(text[:-4]) is None
    assert tokens.read_iterator("AAAA") is None
    assert tokens.read_iterator("é") is None


def test_a_forged_iterator_is_refused() -> None:
    engine = StreamEngine()
    stream = engine.create()
    forged = tokens.make_iterator(stream.secret[:16] + "0" * 16, 0, 0, engine.clock.now_ms())
    assert outcome_of(engine.records.get_records, forged) == "InvalidArgumentException: Invalid ShardIterator."
    assert outcome_of(engine.records.get_records, "x") == "InvalidArgumentException: Invalid ShardIterator."
    engine.close()
