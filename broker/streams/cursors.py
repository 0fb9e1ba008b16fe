"""Where queues and channels are in the shards of their streams: one place for each shard, saved once a group.

An owner without a cursor in a shard is at its first record: so it is with shards that came after the owner, and with
an owner that began at TRIM_HORIZON. What lies ahead of a cursor is read in pieces and kept for the next read: a
segment holds many records, and a receive wants ten.
"""

from __future__ import annotations

from collections.abc import Iterable

from broker.store.port import StreamQueueStore
from broker.streams.records import Records
from broker.streams.registry import Registry
from broker.streams.segments import Record
from broker.streams.stream import Shard, Stream

FIRST = 1  # a shard's first sequence
AHEAD_RECORDS, AHEAD_BYTES = 256, 256 * 1024
CURSORS_AHEAD = 64  # that keep what lies ahead of them


class Cursor:
    __slots__ = ("ahead", "ahead_position", "owner_no", "position", "shard_no")

    def __init__(self, owner_no: int, shard_no: int, position: int) -> None:
        self.owner_no = owner_no
        self.shard_no = shard_no
        self.position = position
        self.ahead: list[Record] = []
        self.ahead_position = position  # of the first of them


class Cursors:
    """Those of all owners. `load` comes before that of the owners, `save` last in a group."""

    def __init__(self, registry: Registry, records: Records, store: StreamQueueStore) -> None:
        self._clock = registry.clock
        self._records = records
        self._store = store
        self._by_owner: dict[int, dict[int, Cursor]] = {}
        self._moved: dict[Cursor, None] = {}
        self._reading: dict[Cursor, None] = {}
        registry.on_load.append(self._load)

    def _load(self) -> None:
        self._moved.clear()
        self._reading.clear()
        self._by_owner = {}
        for owner_no, shard_no, position in self._store.load_cursors():
            self._by_owner.setdefault(owner_no, {})[shard_no] = Cursor(owner_no, shard_no, position)

    def save(self) -> None:
        if self._moved:
            self._store.save_cursors([(cursor.owner_no, cursor.shard_no, cursor.position) for cursor in self._moved])
            self._moved.clear()

    def of(self, owner_no: int, shard: Shard) -> Cursor:
        of_owner = self._by_owner.setdefault(owner_no, {})
        cursor = of_owner.get(shard.shard_no)
        if cursor is None:
            self._drop_gone(of_owner, shard.stream)
            cursor = of_owner[shard.shard_no] = Cursor(owner_no, shard.shard_no, FIRST)
        return cursor

    def _drop_gone(self, of_owner: dict[int, Cursor], stream: Stream) -> None:
        """Those of shards that are expired: each reshard brings new ones."""
        there = {shard.shard_no for shard in stream.shards.values()}
        for cursor in [cursor for cursor in of_owner.values() if cursor.shard_no not in there]:
            self._moved.pop(cursor, None)
            self._reading.pop(cursor, None)
            del of_owner[cursor.shard_no]
            self._store.delete_cursor(cursor.owner_no, cursor.shard_no)

    def move(self, cursor: Cursor, position: int) -> None:
        cursor.position = position
        self._moved[cursor] = None

    def forget(self, owner_no: int) -> None:
        for cursor in self._by_owner.pop(owner_no, {}).values():
            self._moved.pop(cursor, None)
            self._reading.pop(cursor, None)
        self._store.delete_cursors_of(owner_no)

    def has_more(self, owner_no: int, shard: Shard) -> bool:
        cursor = self._by_owner.get(owner_no, {}).get(shard.shard_no)
        return shard.last_sequence >= (FIRST if cursor is None else cursor.position)

    def take(self, owner_no: int, shard: Shard, limit: int, limit_bytes: int) -> list[tuple[int, Record]]:
        """Some records that were not seen, each with its place; at least one if there is one. The cursor moves on."""
        cursor = self.of(owner_no, shard)
        horizon_ms = shard.stream.horizon_ms(self._clock.now_ms())
        taken: list[tuple[int, Record]] = []
        position = cursor.position
        while len(taken) < limit and position <= shard.last_sequence:
            place = position - cursor.ahead_position
            if not 0 <= place < len(cursor.ahead) or cursor.ahead[place].arrival_ms < horizon_ms:
                cursor.ahead, following = self._records.read(shard, position, AHEAD_RECORDS, AHEAD_BYTES)
                position = cursor.ahead_position = following - len(cursor.ahead)
                self._keep(cursor)
                continue
            record = cursor.ahead[place]
            limit_bytes -= len(record.data)
            if limit_bytes < 0 and taken:
                break
            taken.append((position, record))
            position += 1
        if position - cursor.ahead_position >= len(cursor.ahead):
            cursor.ahead = []
            self._reading.pop(cursor, None)
        if position != cursor.position:
            self.move(cursor, position)
        return taken

    def _keep(self, cursor: Cursor) -> None:
        self._reading.pop(cursor, None)
        self._reading[cursor] = None
        if len(self._reading) > CURSORS_AHEAD:
            oldest = next(iter(self._reading))
            del self._reading[oldest]
            oldest.ahead = []

    def fetch(self, stream: Stream, places: Iterable[tuple[int, int]]) -> dict[tuple[int, int], Record]:
        """Records by their places, (shard_no, sequence); those that are expired are missing."""
        shards = {shard.shard_no: shard for shard in stream.shards.values()}
        found: dict[tuple[int, int], Record] = {}
        piece: list[Record] = []
        piece_of, first = -1, 0
        for shard_no, sequence in sorted(places):
            if shard_no != piece_of or not first <= sequence < first + len(piece):
                shard = shards.get(shard_no)
                if shard is None:
                    continue
                piece, following = self._records.read(shard, sequence, AHEAD_RECORDS, AHEAD_BYTES)
                piece_of, first = shard_no, following - len(piece)
            if first <= sequence < first + len(piece):
                found[shard_no, sequence] = piece[sequence - first]
        return found
