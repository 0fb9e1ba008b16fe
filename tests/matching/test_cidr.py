import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.matching.cidr import address

from .asking import matches, refusal


def test_ipv4() -> None:
    assert matches([{"cidr": "10.0.0.0/24"}], "10.0.0.0", "10.0.0.255", "10.0.1.0", "x", 10, None) == (
        [True, True, False, False, False, False]
    )
    assert matches([{"cidr": "10.0.0.77/24"}], "10.0.0.1") == [True]  # the bits behind the mask do not matter
    assert matches([{"cidr": "10.0.0.2/31"}], "10.0.0.1", "10.0.0.2", "10.0.0.3", "10.0.0.4") == [
        False,
        True,
        True,
        False,
    ]


def test_ipv6() -> None:
    assert matches([{"cidr": "2001:db8::/32"}], "2001:db8::1", "2001:0DB8:0:0:0:0:0:1", "2001:db9::") == [
        True,
        True,
        False,
    ]
    assert matches([{"cidr": "::1/127"}], "::", "::1", "::2") == [True, True, False]


def test_a_plain_address_is_compared_as_an_address() -> None:
    assert matches(["2001:db8::1"], "2001:db8::1", "2001:0DB8:0:0:0:0:0:1", "2001:db8::2") == [True, True, False]
    assert matches(["10.0.0.1"], "10.0.0.1", "010.0.0.1", "::ffff:a00:1", "10.0.0.2") == [True, True, True, False]
    assert matches(["256.0.0.1"], "256.0.0.1", "256.0.0.01") == [True, False]  # no address: text
    assert matches([":::", "a:"], ":::", "a:", "::") == [True, True, False]


def test_one_family_in_a_block_of_the_other() -> None:
    # event-ruler compares hexadecimal digits from the left, and stops when it is sure.
    assert matches([{"cidr": "10.0.0.0/8"}], "0a12::", "0b12::") == [True, False]
    assert matches([{"cidr": "0.0.0.0/0"}], "2001:db8::1", "fe80::1", 5) == [True, True, False]
    assert matches([{"cidr": "2000::/3"}], "32.0.0.0", "32.0.0.1", "63.255.255.254", "63.255.255.255") == (
        [False, True, True, False]
    )
    assert matches(["10.0.0.1"], "0a00:1::", "0a00:2::") == [True, False]
    assert matches(["a00:1::"], "10.0.0.1") == [False]


@given(st.ip_addresses(v=6))
def test_every_ipv6_address_in_both_spellings(value: ipaddress.IPv6Address) -> None:
    mapped = value.ipv4_mapped
    expected = (32, int(mapped)) if mapped else (128, int(value))
    assert address(value.exploded) == address(value.compressed.upper()) == expected


@pytest.mark.parametrize("text", ["", ":", ":::", "1::2::3", "1:2:3:4:5:6:7", "1:2:3:4:5:6:7:8:9", "1:2:3:4:5:6:7:8::"])
def test_no_ipv6_address(text: str) -> None:
    assert address(text) is None


@pytest.mark.parametrize(
    "text", ["1:", ":1", "1:2:3:4:5:6:7:", "12345::", "g::", "::ffff:1.2.3.4", "1.2.3", "1.2.3.4.5"]
)
def test_no_address(text: str) -> None:
    assert address(text) is None


def test_what_java_takes_for_one() -> None:
    assert address("00001::") == address("1::") == (128, 1 << 112)
    assert address("1:2:3:4:5:6:7::") == (128, 0x1_0002_0003_0004_0005_0006_0007_0000)
    assert address("0010.0.0.1") == (32, 0x0A000001)
    assert address("00000000010.0.0.1") is None  # longer than fifteen characters


def test_refused() -> None:
    def reason(cidr: object) -> str:
        return refusal({"a": [{"cidr": cidr}]})

    assert reason(1) == "prefix match pattern must be a string"  # event-ruler's words
    assert reason("10.0.0.0") == reason("10.0.0.0/1/2") == "Malformed CIDR, one '/' required"
    assert reason("10.0.0.0/x") == "Malformed CIDR, mask bits must be an integer"
    assert reason("10.0.0.0/-1") == "Malformed CIDR, mask bits must not be negative"
    assert reason("10.0.0.0/32") == "IPv4 mask bits must be < 32"
    assert reason("::/128") == "IPv6 mask bits must be < 128"
    assert reason("10.0.0.256/8") == "Invalid IP address: 10.0.0.256"
    assert reason("example/8") == "Nonstandard IP address: example"
