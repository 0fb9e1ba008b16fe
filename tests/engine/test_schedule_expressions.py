"""Schedule expressions: the guide's examples, and an independent calculation that asks every minute of a day."""

from __future__ import annotations

import contextlib
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from broker.schedules import Cron, InvalidScheduleExpression, Rate, parse

MINUTE_MS = 60_000
DAY_MS = 86_400_000
EPOCH = date(1970, 1, 1)


def ms(text: str) -> int:
    return round(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp() * 1000)


def moments(expression: str, after: str, count: int) -> list[str]:
    """The next moments, as `2024-02-29 12:00`."""
    schedule = parse(expression)
    assert isinstance(schedule, Cron)
    found: list[str] = []
    at: int | None = ms(after)
    while at is not None and len(found) < count:
        at = schedule.next_ms(at)
        if at is not None:
            found.append(datetime.fromtimestamp(at / 1000, UTC).strftime("%Y-%m-%d %H:%M"))
    return found


def days(expression: str, after: str, count: int) -> list[str]:
    return [moment[:10] for moment in moments(expression, after, count)]


def valid(expression: str) -> bool:
    refusal = ""
    try:
        parse(expression)
    except InvalidScheduleExpression as refused:
        refusal = f"{refused} {refused.reason}"
    assert not refusal or len(refusal) > len("Parameter ScheduleExpression is not valid. ")
    return not refusal


# Rates ------------------------------------------------------------------------------------------


def test_rates() -> None:
    assert parse("rate(1 minute)") == Rate(MINUTE_MS)
    assert parse("rate(5 minutes)") == Rate(5 * MINUTE_MS)
    assert parse("rate(1 hour)") == Rate(60 * MINUTE_MS)
    assert parse("rate(12 hours)") == Rate(720 * MINUTE_MS)
    assert parse("rate(1 day)") == Rate(DAY_MS)
    assert parse("rate(7 days)") == Rate(7 * DAY_MS)


@pytest.mark.parametrize(
    "text",
    [
        "rate(1 hours)",  # the guide's two
        "rate(5 hour)",
        "rate(1 minutes)",
        "rate(0 minutes)",
        "rate(-1 minutes)",
        "rate(1.5 hours)",
        "rate(5 seconds)",
        "rate(5 weeks)",
        "rate(5minutes)",
        "rate(minutes)",
        "rate()",
        "rate(5 minutes",
        "Rate(5 minutes)",
        " rate(5 minutes)",
        "rate(5 minutes) ",
        "rate(5 MINUTES)",
        "rate(99999999999 minutes)",
        "rate(3000000000 days)",
        "rate(٥ minutes)",
    ],
)
def test_no_rates(text: str) -> None:
    assert not valid(text)


@given(st.integers(1, 10**9), st.integers(0, 10**15), st.integers(0, 10**15))
def test_a_rate_keeps_to_its_anchor(period_ms: int, anchor_ms: int, after_ms: int) -> None:
    found = Rate(period_ms).next_ms(after_ms, anchor_ms)
    assert found > after_ms
    assert (found - anchor_ms) % period_ms == 0
    assert found == anchor_ms or after_ms >= found - period_ms >= anchor_ms


# The guide's cron expressions -------------------------------------------------------------------


def test_times_of_day() -> None:
    assert moments("cron(0 10 * * ? *)", "2024-02-28 10:00", 2) == ["2024-02-29 10:00", "2024-03-01 10:00"]
    assert moments("cron(15 12 * * ? *)", "2023-02-28 12:14", 2) == ["2023-02-28 12:15", "2023-03-01 12:15"]
    assert moments("cron(0/15 * * * ? *)", "2024-12-31 23:31", 2) == ["2024-12-31 23:45", "2025-01-01 00:00"]
    assert moments("cron(5,35 14 * * ? *)", "2024-01-01 14:05", 2) == ["2024-01-01 14:35", "2024-01-02 14:05"]
    assert moments("cron(1/10 0 * * ? *)", "2024-01-01 00:21", 2) == ["2024-01-01 00:31", "2024-01-01 00:41"]


def test_days_of_the_week() -> None:
    assert days("cron(0 18 ? * MON-FRI *)", "2024-05-30 18:00", 3) == ["2024-05-31", "2024-06-03", "2024-06-04"]
    assert moments("cron(0/5 8-17 ? * MON-FRI *)", "2024-05-31 17:50", 2) == ["2024-05-31 17:55", "2024-06-03 08:00"]
    assert days("cron(0 0 ? * 1 *)", "2024-05-30", 2) == ["2024-06-02", "2024-06-09"]  # 1 is Sunday
    assert days("cron(0 0 ? * fri-mon *)", "2024-05-31", 4) == ["2024-06-01", "2024-06-02", "2024-06-03", "2024-06-07"]
    assert days("cron(0 0 ? * L *)", "2024-05-30", 2) == ["2024-06-01", "2024-06-08"]  # a week's last day


def test_hours_that_go_round() -> None:
    """The guide's own: 10:00 pm to 2:00 am. Each day is asked by itself: Friday ends at midnight."""
    found = moments("cron(0/30 20-2 ? * MON-FRI *)", "2024-05-31 23:00", 3)
    assert found == ["2024-05-31 23:30", "2024-06-03 00:00", "2024-06-03 00:30"]


def test_days_of_the_month() -> None:
    assert days("cron(0 8 1 * ? *)", "2024-11-02", 2) == ["2024-12-01", "2025-01-01"]
    assert days("cron(0 8 L * ? *)", "2024-02-01", 3) == ["2024-02-29", "2024-03-31", "2024-04-30"]
    assert days("cron(0 8 L 2 ? *)", "2023-03-01", 2) == ["2024-02-29", "2025-02-28"]
    assert days("cron(0 8 31 * ? *)", "2024-03-31 08:00", 3) == ["2024-05-31", "2024-07-31", "2024-08-31"]
    assert days("cron(0 8 29 2 ? *)", "2096-03-01", 2) == ["2104-02-29", "2108-02-29"]  # 2100 is no leap year
    assert days("cron(0 8 29 2 ? *)", "1996-03-01", 2) == ["2000-02-29", "2004-02-29"]
    assert days("cron(0 8 LW * ? *)", "2024-02-01", 4) == ["2024-02-29", "2024-03-29", "2024-04-30", "2024-05-31"]
    assert days("cron(0 8 15,L * ? *)", "2024-02-01", 3) == ["2024-02-15", "2024-02-29", "2024-03-15"]


def test_the_nearest_weekday() -> None:
    assert days("cron(0 8 3W * ? *)", "2024-01-31", 5) == [
        "2024-02-02",  # the 3rd is a Saturday
        "2024-03-04",  # a Sunday
        "2024-04-03",
        "2024-05-03",
        "2024-06-03",
    ]
    assert days("cron(0 8 1W * ? *)", "2024-05-31", 2) == ["2024-06-03", "2024-07-01"]  # June's 1st is a Saturday
    assert days("cron(0 8 30W 6 ? *)", "2024-01-01", 1) == ["2024-06-28"]  # a Sunday at June's end
    assert days("cron(0 8 31W * ? 2027)", "2026-12-31", 20) == [
        "2027-01-29",
        "2027-03-31",
        "2027-05-31",
        "2027-07-30",
        "2027-08-31",
        "2027-10-29",
        "2027-12-31",
    ]


def test_the_last_and_the_nth_of_a_month() -> None:
    found = moments("cron(15 10 ? * 6L 2019-2022)", "2022-10-01", 5)
    assert found == ["2022-10-28 10:15", "2022-11-25 10:15", "2022-12-30 10:15"]  # and no more
    assert days("cron(0 0 ? * 3#2 *)", "2024-01-01", 2) == ["2024-01-09", "2024-02-13"]  # the second Tuesday
    assert days("cron(0 0 ? * TUE#5 *)", "2024-01-01", 2) == ["2024-01-30", "2024-04-30"]
    assert days("cron(0 0 ? * FRIL,SUNL *)", "2024-02-01", 2) == ["2024-02-23", "2024-02-25"]


def test_months_and_years() -> None:
    assert days("cron(0 0 1 JAN,FEB,MAR ? *)", "2024-02-02", 2) == ["2024-03-01", "2025-01-01"]
    assert days("cron(0 0 1 NOV-FEB ? *)", "2024-11-02", 3) == ["2024-12-01", "2025-01-01", "2025-02-01"]
    assert days("cron(0 0 1 1/6 ? *)", "2024-01-02", 2) == ["2024-07-01", "2025-01-01"]
    assert days("cron(0 0 1 1 ? 2024/100)", "2024-01-01", 3) == ["2124-01-01"]
    assert moments("cron(59 23 31 12 ? *)", "2198-12-31 23:59", 2) == ["2199-12-31 23:59"]
    assert moments("cron(* * * * ? 1970)", "1960-01-01", 1) == ["1970-01-01 00:00"]
    assert moments("cron(0 0 30 2 ? *)", "2024-01-01", 1) == []


def test_strictly_after() -> None:
    every_minute = parse("cron(* * * * ? *)")
    assert isinstance(every_minute, Cron)
    assert every_minute.next_ms(0) == MINUTE_MS
    assert every_minute.next_ms(MINUTE_MS - 1) == MINUTE_MS
    assert every_minute.next_ms(MINUTE_MS) == 2 * MINUTE_MS
    assert every_minute.next_ms(-1) == 0
    assert every_minute.next_ms(-(10**18)) == 0
    assert every_minute.next_ms(10**18) is None


@pytest.mark.parametrize(
    "text",
    [
        "cron(* * * * ? *)",
        "cron(0/5, 9-18, ?, *, MON-FRI, *)",  # AWS takes it: aws/aws-sdk issue 161
        "cron(0\t12 *  * ? *)",
        "cron(00 08 01 06 ? 2024)",
        "cron(0 11-23/2 * * ? *)",
        "cron(0 0 ? jan-MAR 2,wed,SAT *)",
    ],
)
def test_valid(text: str) -> None:
    assert valid(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "cron()",
        "cron(* * * * *)",
        "cron(* * * * ? * *)",
        "cron(0 50 0,6,12,18 * ? *)",
        "cron(* 1 * * * *)",
        "cron(7 20 * * 1-7 *)",
        "cron(0 0 ? * ? *)",
        "cron(*/60 * * * ? *)",  # aws/aws-sdk-js issue 4212
        "cron(15 12 ? * -1 *)",
        "cron(60 * * * ? *)",
        "cron(* 24 * * ? *)",
        "cron(0 0 0 * ? *)",
        "cron(0 0 32 * ? *)",
        "cron(0 0 32W * ? *)",
        "cron(0 0 1 13 ? *)",
        "cron(0 0 1 FOO ? *)",
        "cron(0 0 ? * 0 *)",
        "cron(0 0 ? * 8 *)",
        "cron(0 0 ? * 8L *)",
        "cron(0 0 ? * JAN *)",
        "cron(0 0 ? * 3#6 *)",
        "cron(0 0 ? * 3#0 *)",
        "cron(0 0 ? * 3#1,6#3 *)",  # the guide's
        "cron(0 0 ? * 6,3#1 *)",
        "cron(0 0 ? * MON/2 *)",
        "cron(0 0 L-3 * ? *)",
        "cron(0 0 W * ? *)",
        "cron(0 0 1-5W * ? *)",
        "cron(0 0 ? * 3W *)",
        "cron(0 ? * * ? *)",
        "cron(0 L * * ? *)",
        "cron(0/0 * * * ? *)",
        "cron(5/ * * * ? *)",
        "cron(-5 * * * ? *)",
        "cron(1-2-3 * * * ? *)",
        "cron(, * * * ? *)",
        "cron(0 0 1 1 ? 1969)",
        "cron(0 0 1 1 ? 2200)",
        "cron(0 0 1 1 ? 2025-2024)",
        "cron(0 0 1 1 ? *",
        "cron(0 0 1 1 ? *))",
        "cron(٠ 0 1 1 ? *)",
        "Cron(0 0 1 1 ? *)",
        "at(2024-01-01T00:00:00)",
    ],
)
def test_invalid(text: str) -> None:
    assert not valid(text)


# An independent calculation ---------------------------------------------------------------------

MONTH_NAMES = ["JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC"]
DAY_NAMES = ["SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT"]


def asked(items: str, value: int, low: int, high: int, names: list[str]) -> bool:
    """Is the value in this list? As the guide explains `,`, `-`, `*` and `/`, one value at a time."""

    def number(text: str) -> int:
        return names.index(text) + low if text in names else int(text)

    for item in items.split(","):
        span, _, step = item.partition("/")
        begin, dash, end = span.partition("-")
        if begin == "*":
            first, last = low, high
        else:
            first = number(begin)
            last = number(end) if dash else high if step else first
        at = first
        while True:  # from the first on, round the end if need be
            if at == value:
                return True
            size = high - low + 1
            left = (last - at) % size
            if left < int(step or 1):
                break
            at = (at - low + int(step or 1)) % size + low
    return False


def is_weekday(day: date) -> bool:
    return day.weekday() < 5


def asked_day(of_month: str, of_week: str, day: date) -> bool:
    tomorrow, in_a_week = day + timedelta(1), day + timedelta(7)
    if of_week == "?":
        for item in of_month.split(","):
            if item == "L":
                if tomorrow.month != day.month:
                    return True
            elif item == "LW":
                ahead = [tomorrow + timedelta(n) for n in range(3)]
                rest = [d for d in ahead if d.month == day.month and is_weekday(d)]
                if is_weekday(day) and not rest and ahead[-1].month != day.month:
                    return True
            elif item.endswith("W"):
                try:
                    wanted = day.replace(day=int(item[:-1]))
                except ValueError:
                    continue
                near = [wanted + timedelta(n) for n in (0, -1, 1, 2, -2)]
                if day == next(d for d in near if is_weekday(d) and d.month == wanted.month):
                    return True
            elif asked(item, day.day, 1, 31, []):
                return True
        return False
    name = day.isoweekday() % 7 + 1
    for item in of_week.split(","):
        if "#" in item:
            which, _, nth = item.partition("#")
            if asked(which, name, 1, 7, DAY_NAMES) and (day - timedelta(7 * int(nth) - 7)).month == day.month:
                return (day - timedelta(7 * int(nth))).month != day.month
        elif item == "L":
            if name == 7:
                return True
        elif item.endswith("L"):
            if asked(item[:-1], name, 1, 7, DAY_NAMES) and in_a_week.month != day.month:
                return True
        elif asked(item, name, 1, 7, DAY_NAMES):
            return True
    return False


def by_hand(expression: str, after_ms: int, days_ahead: int) -> int | None:
    """The next moment, of all minutes of so many days."""
    minutes, hours, of_month, months, of_week, years = expression.removeprefix("cron(").removesuffix(")").split()
    start = (after_ms // MINUTE_MS + 1) * MINUTE_MS
    first = EPOCH + timedelta(start // DAY_MS)
    for ahead in range(days_ahead + 1):
        day = first + timedelta(ahead)
        if (
            not 1970 <= day.year <= 2199
            or not asked(years, day.year, 1970, 2199, [])
            or not asked(months, day.month, 1, 12, MONTH_NAMES)
            or not asked_day(of_month, of_week, day)
        ):
            continue
        for hour in range(24):
            if asked(hours, hour, 0, 23, []):
                for minute in range(60):
                    at = (day - EPOCH).days * DAY_MS + (hour * 60 + minute) * MINUTE_MS
                    if at >= start and asked(minutes, minute, 0, 59, []):
                        return at
    return None


def values(low: int, high: int, names: list[str], *, increments: bool = True, round_the_end: bool = True) -> object:
    one = st.integers(low, high).map(lambda n: names[n - low] if names and n % 2 else str(n))
    numbers = st.tuples(st.integers(low, high), st.integers(low, high))
    span = numbers.map(lambda pair: pair if round_the_end else tuple(sorted(pair))).map("{0[0]}-{0[1]}".format)
    items = [one, span]
    if increments:
        steps = st.tuples(st.one_of(st.just("*"), one, span), st.integers(1, min(high, 60)))
        items.append(steps.map("{0[0]}/{0[1]}".format))
    return st.just("*") | st.lists(st.one_of(items), min_size=1, max_size=3).map(",".join)


def field(low: int, high: int, names: list[str] | None = None, **more: bool) -> st.SearchStrategy[str]:
    strategy = values(low, high, names or [], **more)
    assert isinstance(strategy, st.SearchStrategy)
    return strategy


WEEKDAY = st.integers(1, 7).map(lambda n: DAY_NAMES[n - 1] if n % 2 else str(n))
OF_MONTH = st.one_of(
    field(1, 31),
    st.lists(
        st.sampled_from(["L", "LW", *(f"{day}W" for day in (1, 2, 15, 28, 29, 30, 31))]) | st.integers(1, 31).map(str),
        min_size=1,
    ).map(lambda items: ",".join(items[:3])),
)
OF_WEEK = st.one_of(
    field(1, 7, DAY_NAMES, increments=False),
    st.lists(WEEKDAY.map("{}L".format) | WEEKDAY | st.just("L"), min_size=1).map(lambda items: ",".join(items[:3])),
    st.tuples(WEEKDAY, st.integers(1, 5)).map("{0[0]}#{0[1]}".format),
)
DAYS = st.one_of(OF_MONTH.map(lambda days: (days, "?")), OF_WEEK.map(lambda days: ("?", days)))
EDGES = [ms(f"{year}-{day}") for year in (1999, 2000, 2023, 2024, 2099, 2100, 2199) for day in ("02-27", "12-30")]
AFTER = st.one_of(
    st.sampled_from(EDGES).flatmap(lambda at: st.integers(at, at + 5 * DAY_MS)),
    st.integers(0, ms("2199-12-31 23:59")),
)


@settings(deadline=None, max_examples=400)
@given(
    field(0, 59),
    field(0, 23),
    DAYS,
    field(1, 12, MONTH_NAMES),
    field(1970, 2199, round_the_end=False) | st.just("*"),
    AFTER,
)
def test_as_by_hand(minutes: str, hours: str, of: tuple[str, str], months: str, years: str, after_ms: int) -> None:
    expression = f"cron({minutes} {hours} {of[0]} {months} {of[1]} {years})"
    schedule = parse(expression)
    assert isinstance(schedule, Cron)
    found, ahead = schedule.next_ms(after_ms), 800
    expected = by_hand(expression, after_ms, ahead)
    if expected is None:
        assert found is None or found // DAY_MS > after_ms // DAY_MS + ahead
    else:
        assert found == expected


def all_days(of_month: str, of_week: str, first: int, last: int) -> list[date]:
    schedule = parse(f"cron(0 0 {of_month} * {of_week} {first}-{last})")
    assert isinstance(schedule, Cron)
    found = []
    at = -1
    while (following := schedule.next_ms(at)) is not None:
        at = following
        found.append(EPOCH + timedelta(at // DAY_MS))
    return found


def all_days_by_hand(of_month: str, of_week: str, first: int, last: int) -> list[date]:
    length = (date(last + 1, 1, 1) - date(first, 1, 1)).days
    everyday = [date(first, 1, 1) + timedelta(n) for n in range(length)]
    return [day for day in everyday if asked_day(of_month, of_week, day)]


@settings(deadline=None, max_examples=40)
@given(DAYS, st.integers(1990, 2110))
def test_every_day_of_four_years(of: tuple[str, str], year: int) -> None:
    assert all_days(*of, year, year + 3) == all_days_by_hand(*of, year, year + 3)


def test_every_special_day_of_six_years() -> None:
    """Time enough for months to begin and to end on every day of the week."""
    of_month = ["L", "LW", *(f"{day}W" for day in range(1, 32))]
    of_week = ["L", *(f"{day}L" for day in DAY_NAMES), *(f"{day}#{n}" for day in range(1, 8) for n in range(1, 6))]
    for of in [(day, "?") for day in of_month] + [("?", day) for day in of_week]:
        assert all_days(*of, 2023, 2028) == all_days_by_hand(*of, 2023, 2028), of


@settings(deadline=None)
@given(field(0, 59), field(0, 23), DAYS, AFTER)
def test_moments_grow(minutes: str, hours: str, of: tuple[str, str], after_ms: int) -> None:
    schedule = parse(f"cron({minutes} {hours} {of[0]} * {of[1]} *)")
    assert isinstance(schedule, Cron)
    found = [after_ms]
    for _ in range(20):
        following = schedule.next_ms(found[-1])
        if following is None:
            break
        found.append(following)
    assume(len(found) > 1)
    assert all(a < b and b % MINUTE_MS == 0 for a, b in pairwise(found))
    for before, after in pairwise(found):  # nothing lies between
        assert schedule.next_ms((before + after) // 2) == after


# Whatever comes ---------------------------------------------------------------------------------

SIGNS = "0123456789*/,-?LW#MONFRI"


def take(text: str) -> None:
    with contextlib.suppress(InvalidScheduleExpression):
        parse(text).next_ms(0, 0)


@given(st.text() | st.text(SIGNS + " ", max_size=40).map("cron({})".format) | st.text().map("rate({})".format))
def test_anything(text: str) -> None:
    take(text)


@given(st.lists(st.text(SIGNS, min_size=1, max_size=8), min_size=6, max_size=6).map(" ".join))
def test_six_of_anything(fields: str) -> None:
    take(f"cron({fields})")
