"""An RSA key that is the same for the same seed, so that a run with a seed gets the same signatures.

`cryptography` draws its primes from the operating system and takes no seed. Not a secret: whoever knows the seed has
the key, and nothing here resists being timed.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from broker.entropy import Entropy

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey

_EXPONENT = 65537
_PRIME_BITS = 1024
_ROUNDS = 5  # FIPS 186-5, table B.1: enough for random candidates of this size
_SMALL = 6_000
_SMALL_PRIMES = math.prod(n for n in range(3, _SMALL, 2) if all(n % d for d in range(3, math.isqrt(n) + 1, 2)))


def seeded_key(entropy: Entropy) -> RSAPrivateKey:
    """2048 bits. Takes some tenths of a second."""
    from cryptography.hazmat.primitives.asymmetric import rsa

    p, q = _prime(entropy), _prime(entropy)
    d = pow(_EXPONENT, -1, math.lcm(p - 1, q - 1))
    return rsa.RSAPrivateNumbers(
        p, q, d, d % (p - 1), d % (q - 1), pow(q, -1, p), rsa.RSAPublicNumbers(_EXPONENT, p * q)
    ).private_key()


def _prime(entropy: Entropy) -> int:
    top = 0b11 << _PRIME_BITS - 2  # so that the product of two has all its bits
    while True:
        candidate = entropy.bits(_PRIME_BITS) | top | 1
        if math.gcd(candidate, _SMALL_PRIMES) == 1 and candidate % _EXPONENT != 1 and _is_prime(candidate, entropy):
            return candidate


def _is_prime(n: int, entropy: Entropy) -> bool:
    """Miller and Rabin's test: a composite number passes a round with a probability below 1/4."""
    twos = ((n - 1) & -(n - 1)).bit_length() - 1
    odd = (n - 1) >> twos
    for _ in range(_ROUNDS):
        x = pow(2 + entropy.bits(_PRIME_BITS - 2), odd, n)
        if x in (1, n - 1):
            continue
        for _ in range(twos - 1):
            x = x * x % n
            if x == n - 1:
                break
        else:
            return False
    return True
