"""How much a client may send, and how often. Bodies are cut off while they arrive, not after."""

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable

from aiohttp import web

from engine.errors import CapacityError, InputError

MAX_SDP_BYTES = 64 * 2**10
MAX_JSON_BYTES = 64 * 2**10
MAX_MESSAGE_BYTES = 2**20
MAX_ADDRESSES = 4096
BURST_S = 4.0
BODY_LIMIT_S = 10.0


class TooLargeError(InputError):
    """A body is larger than its kind may be."""


class TooManyError(CapacityError):
    """A client asks too often, or holds too much."""


class TooSlowError(InputError):
    """A body takes longer than its kind may."""


class Bucket:
    """A token bucket: `rate_hz` in the long run, `burst` at once.

    Time is given, in seconds, and never goes back.
    """

    def __init__(self, rate_hz: float, burst: float, now_s: float) -> None:
        self._rate_hz, self._burst = rate_hz, burst
        self._left, self._then_s = burst, now_s

    def take(self, now_s: float, cost: float = 1.0) -> float:
        """Take if there is enough; returns 0, or else the seconds until there is."""
        self._left = min(self._burst, self._left + (now_s - self._then_s) * self._rate_hz)
        self._then_s = now_s
        if self._left < cost:
            return (cost - self._left) / self._rate_hz
        self._left -= cost
        return 0.0


class AddressRates:
    """A bucket per address; the ones that were quiet longest are forgotten.

    Args:
        rate_hz: per address.
        clock_s: monotonic.
    """

    def __init__(self, rate_hz: float, clock_s: Callable[[], float] = time.monotonic) -> None:
        self._rate_hz, self._clock_s = rate_hz, clock_s
        self._buckets: OrderedDict[str, Bucket] = OrderedDict()

    def __len__(self) -> int:
        return len(self._buckets)

    def check(self, address: str) -> None:
        """Count one request.

        Raises:
            TooManyError: it is one too many for now.
        """
        now_s = self._clock_s()
        bucket = self._buckets.pop(address, None)
        if bucket is None:
            bucket = Bucket(self._rate_hz, max(1.0, self._rate_hz * BURST_S), now_s)
        self._buckets[address] = bucket
        if len(self._buckets) > MAX_ADDRESSES:
            self._buckets.popitem(last=False)
        wait_s = bucket.take(now_s)
        if wait_s > 0:
            raise TooManyError("too many requests from this address", max(1, round(wait_s)))


class AddressCounts:
    """How many things of a kind each address holds open."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._held: dict[str, int] = {}

    def __len__(self) -> int:
        return len(self._held)

    def take(self, address: str) -> None:
        """Count one more.

        Raises:
            TooManyError: it has its fill.
        """
        if self._held.get(address, 0) >= self._most:
            raise TooManyError(f"this address has {self._most} connections already; close one")
        self._held[address] = self._held.get(address, 0) + 1

    def give_back(self, address: str) -> None:
        """Count one less."""
        left = self._held[address] - 1
        if left:
            self._held[address] = left
        else:
            del self._held[address]


async def read_body(request: web.Request, most_bytes: int, limit_s: float = BODY_LIMIT_S) -> bytes:
    """Return the whole body.

    Raises:
        TooLargeError: it is larger; the rest is not read.
        TooSlowError: it was not there in time.
    """
    refusal = f"the body is larger than {most_bytes >> 10} kB"
    if (request.content_length or 0) > most_bytes:
        raise TooLargeError(refusal)
    body = bytearray()
    try:
        async with asyncio.timeout(limit_s):
            async for block in request.content.iter_any():
                body += block
                if len(body) > most_bytes:
                    raise TooLargeError(refusal)
    except TimeoutError:
        raise TooSlowError(f"the body was not here within {limit_s:.0f} s") from None
    return bytes(body)
