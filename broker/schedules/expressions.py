"""Schedule expressions: `rate(5 minutes)` and `cron(0 18 ? * MON-FRI *)`, in UTC and whole minutes.

The EventBridge guide, "Using cron and rate expressions to schedule rules", is the rule; where it is silent this
follows Quartz, whose notation AWS took over: `*/60` is an increment too large, `0/5,` has a harmless comma, a range may
go round the end (`20-2`, `NOV-FEB`, not years), `31W` is nothing in shorter months, W never leaves its month, and `LW`
is a month's last weekday.

Ugly: what else Quartz knows and the guide does not name is refused (`L-3`, `/` on days of the week), though AWS may
well take some of it.
"""

import re
from bisect import bisect_left
from calendar import monthrange, timegm
from functools import lru_cache
from typing import NamedTuple

_MINUTE_MS = 60_000
_DAY_MINUTES = 1_440
_UNITS_MS = {"minute": _MINUTE_MS, "hour": 60 * _MINUTE_MS, "day": _DAY_MINUTES * _MINUTE_MS}
_LARGEST_RATE = 2**31 - 1  # AWS names no limit; this keeps every moment within 64 bits

_RATE = re.compile(r"rate\([ \t]*([1-9][0-9]{0,9})[ \t]+(minute|hour|day)(s?)[ \t]*\)")
_CRON = re.compile(r"cron\(([^()]*)\)")
_SPACE = re.compile(r"[ \t]+")
_ITEM = re.compile(r"(?:\*|([A-Z]{3}|[0-9]{1,4})(?:-([A-Z]{3}|[0-9]{1,4}))?)(?:/([0-9]{1,4}))?")
_NEAREST_WEEKDAY = re.compile(r"([0-9]{1,2})W")
_LAST_OF_MONTH = re.compile(r"([A-Z]{3}|[0-9])L")
_NTH_OF_MONTH = re.compile(r"([A-Z]{3}|[0-9])#([1-5])")


class InvalidScheduleExpression(ValueError):
    """EventBridge: `ValidationException`. Its message names no reason; ours is for people."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason

    def __str__(self) -> str:
        return "Parameter ScheduleExpression is not valid."


class Rate(NamedTuple):
    """Again and again after so long."""

    period_ms: int

    def next_ms(self, after_ms: int, anchor_ms: int) -> int:
        """The first of the anchor, a period later, two periods later, … that is later than `after_ms`."""
        if after_ms < anchor_ms:
            return anchor_ms
        return anchor_ms + ((after_ms - anchor_ms) // self.period_ms + 1) * self.period_ms


class _DaysOfMonth(NamedTuple):
    days: frozenset[int]
    last: bool
    near: frozenset[int]  # the weekdays nearest to these
    last_weekday: bool  # the one nearest to the last

    def of(self, first_weekday: int, length: int) -> list[int]:
        days = {day for day in self.days if day <= length}
        if self.last:
            days.add(length)
        for day in self.near | {length} if self.last_weekday else self.near:
            if day <= length:
                weekday = (first_weekday + day - 1) % 7
                if weekday == 6:
                    day += -1 if day > 1 else 2
                elif weekday == 0:
                    day += 1 if day < length else -2
                days.add(day)
        return sorted(days)


class _DaysOfWeek(NamedTuple):
    """1 is Sunday."""

    days: frozenset[int]
    last: frozenset[int]  # the last of the month
    nth: tuple[int, int] | None  # a day, and which of the month

    def of(self, first_weekday: int, length: int) -> list[int]:
        found = []
        for day in range(1, length + 1):
            weekday = (first_weekday + day - 1) % 7 + 1
            if (
                weekday in self.days
                or (weekday in self.last and day > length - 7)
                or (weekday, (day + 6) // 7) == self.nth
            ):
                found.append(day)
        return found


class Cron(NamedTuple):
    """Whenever the clock shows one of these minutes; all but the days in order."""

    minutes: tuple[int, ...]
    hours: tuple[int, ...]
    days: _DaysOfMonth | _DaysOfWeek
    months: tuple[int, ...]
    years: tuple[int, ...]

    def next_ms(self, after_ms: int, anchor_ms: int = 0) -> int | None:
        """The first moment later than `after_ms`, or None: there is none left. (A rate's anchor is nothing to it.)"""
        # A time zone would go around these lines: from the wall's day and minute back to moments.
        start, minute = divmod(max(after_ms // _MINUTE_MS + 1, 0), _DAY_MINUTES)
        day = self._day(start)
        time = self._time(minute) if day == start else self._time(0)
        if time is None:
            day, time = self._day(start + 1), self._time(0)
        if day is None or time is None:
            return None
        return (day * _DAY_MINUTES + time) * _MINUTE_MS

    def _day(self, start: int) -> int | None:
        """The first day at or after this one, both counted from 1970-01-01."""
        for year in self.years[bisect_left(self.years, 1970 + start // 366) :]:
            for month in self.months:
                first = timegm((year, month, 1, 0, 0, 0)) // 86_400
                length = monthrange(year, month)[1]
                if first + length <= start:
                    continue
                for day in self.days.of((first + 4) % 7, length):  # 1970 began on a Thursday
                    if first + day > start:
                        return first + day - 1
        return None

    def _time(self, start: int) -> int | None:
        """The first minute of a day at or after this one."""
        hour, minute = divmod(start, 60)
        at = bisect_left(self.hours, hour)
        if at < len(self.hours) and self.hours[at] == hour:
            rest = bisect_left(self.minutes, minute)
            if rest < len(self.minutes):
                return hour * 60 + self.minutes[rest]
            at += 1
        return self.hours[at] * 60 + self.minutes[0] if at < len(self.hours) else None


@lru_cache(maxsize=1024)
def parse(text: str) -> Rate | Cron:
    """Raises InvalidScheduleExpression."""
    if rate := _RATE.fullmatch(text):
        return _rate(int(rate[1]), rate[2], plural=bool(rate[3]))
    cron = _CRON.fullmatch(text)
    if cron is None or not text.isascii():
        raise InvalidScheduleExpression("expected rate(value unit) or cron(fields)")
    fields = _SPACE.split(cron[1].strip(" \t").upper())
    if len(fields) != 6:
        raise InvalidScheduleExpression(f"a cron expression has six fields, not {len(fields)}")
    return _cron(*(_items(text) for text in fields))


def _rate(value: int, unit: str, *, plural: bool) -> Rate:
    if plural != (value > 1):
        raise InvalidScheduleExpression(f"the unit of {value} is {'singular' if plural else 'plural'}")
    if value > _LARGEST_RATE:
        raise InvalidScheduleExpression("the value is too large")
    return Rate(value * _UNITS_MS[unit])


class _Field(NamedTuple):
    name: str
    low: int
    high: int
    names: tuple[str, ...] = ()  # of its values
    goes_round: bool = True
    increments: bool = True


_MONTHS = ("JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC")
_WEEKDAYS = ("SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT")
_MINUTES = _Field("minutes", 0, 59)
_HOURS = _Field("hours", 0, 23)
_DAY_OF_MONTH = _Field("day of month", 1, 31)
_MONTH = _Field("month", 1, 12, _MONTHS)
_DAY_OF_WEEK = _Field("day of week", 1, 7, _WEEKDAYS, increments=False)
_YEAR = _Field("year", 1970, 2199, goes_round=False)
_ANY = ["?"]


def _items(text: str) -> list[str]:
    """The parts of a list. AWS does not mind commas between nothing: aws/aws-sdk issue 161."""
    items = [item for item in text.split(",") if item]
    if not items:
        raise InvalidScheduleExpression("an empty field")
    return items


def _cron(
    minutes: list[str], hours: list[str], of_month: list[str], months: list[str], of_week: list[str], years: list[str]
) -> Cron:
    if (of_month == _ANY) == (of_week == _ANY):
        raise InvalidScheduleExpression("either day of month or day of week is '?'")
    return Cron(
        minutes=_all(_MINUTES, minutes),
        hours=_all(_HOURS, hours),
        days=_days_of_month(of_month) if of_week == _ANY else _days_of_week(of_week),
        months=_all(_MONTH, months),
        years=_all(_YEAR, years),
    )


def _days_of_month(items: list[str]) -> _DaysOfMonth:
    near = [found for item in items if (found := _NEAREST_WEEKDAY.fullmatch(item))]
    plain = [item for item in items if item != "L" and not item.endswith("W")]
    if len(near) + len(plain) + items.count("L") + items.count("LW") != len(items):
        raise InvalidScheduleExpression("W follows a day of the month")
    return _DaysOfMonth(
        frozenset(_all(_DAY_OF_MONTH, plain)),
        "L" in items,
        frozenset(_value(_DAY_OF_MONTH, found[1]) for found in near),
        "LW" in items,
    )


def _days_of_week(items: list[str]) -> _DaysOfWeek:
    if nth := _NTH_OF_MONTH.fullmatch(items[0]):
        if len(items) > 1:
            raise InvalidScheduleExpression("'#' stands alone")
        return _DaysOfWeek(frozenset(), frozenset(), (_value(_DAY_OF_WEEK, nth[1]), int(nth[2])))
    last = {item: found[1] for item in items if (found := _LAST_OF_MONTH.fullmatch(item))}
    plain = ["SAT" if item == "L" else item for item in items if item not in last]
    return _DaysOfWeek(
        frozenset(_all(_DAY_OF_WEEK, plain)), frozenset(_value(_DAY_OF_WEEK, day) for day in last.values()), None
    )


def _all(field: _Field, items: list[str]) -> tuple[int, ...]:
    return tuple(sorted({value for item in items for value in _values(field, item)}))


def _values(field: _Field, item: str) -> list[int]:
    found = _ITEM.fullmatch(item)
    if found is None:
        raise InvalidScheduleExpression(f"'{item}' is no {field.name}")
    first = field.low if found[1] is None else _value(field, found[1])
    increment = 1
    if found[3] is not None:
        increment = int(found[3])
        if not field.increments or not 0 < increment <= field.high:
            raise InvalidScheduleExpression(f"'{item}' is no increment of {field.name}")
    if found[2] is not None:
        last = _value(field, found[2])
    else:
        last = first if found[1] is not None and found[3] is None else field.high
    if first > last:
        if not field.goes_round:
            raise InvalidScheduleExpression(f"'{item}' ends before it begins")
        size = field.high - field.low + 1
        return [(value - field.low) % size + field.low for value in range(first, last + size + 1, increment)]
    return list(range(first, last + 1, increment))


def _value(field: _Field, text: str) -> int:
    if text in field.names:
        return field.low + field.names.index(text)
    value = int(text) if text.isdecimal() else -1
    if not field.low <= value <= field.high:
        raise InvalidScheduleExpression(f"'{text}' is no {field.name}")
    return value
