"""Tokens: who may publish, view, control or administer which session, and until when.

JWT, HS256: `aud` as configured, `session` a name or "*", `roles` a list, `exp`, `jti` a name of its own. They
travel in the `Authorization` header; a browser, which cannot set one on a WebSocket, offers the subprotocol
"token.JWT" or sends it in the first message. They are never part of an address, and never logged.

With `once` a token begins one connection of each kind - one that publishes, one that views, one stream - and
makes no other tokens: who reads it afterwards cannot come in by it. A page that lost its connection cannot,
either, and so this has to be asked for. The server remembers what was used, until the token's end or its own.
"""

import heapq
import secrets
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Literal, get_args

import jwt

from engine.errors import AccessError, CapacityError

Role = Literal["publish", "view", "control", "admin"]
Way = Literal["publish", "view", "stream"]
ROLES: frozenset[str] = frozenset(get_args(Role))
ANY_SESSION = "*"
MAX_TOKEN_CHARS = 4096
MAX_LIFE_S = 24 * 3600
ONCE_LIFE_S = 300
MAX_USED = 65_536
_MAX_ID_CHARS = 64
_RETRY_AFTER_S = 10
_ALGORITHM = "HS256"


@dataclass(frozen=True)
class Grant:
    """What a token allows.

    Attributes:
        roles: of `Role`; "admin" includes the others.
        session: the one it is for, "*" for any.
        expires_s: Unix time.
        name: of the token, "" if it has none.
        once: whether it begins one connection of each kind.
    """

    roles: frozenset[str]
    session: str
    expires_s: float
    name: str = ""
    once: bool = False

    def allows(self, role: Role, session: str | None) -> bool:
        """Whether it gives that right over that session; None is the server as a whole."""
        right = role in self.roles or "admin" in self.roles
        return right and self.session in {ANY_SESSION, session}


EVERYTHING = Grant(ROLES, ANY_SESSION, float("inf"))


class Used:
    """What tokens for one connection have begun, until they end.

    Args:
        most: remembered; when all of them still hold, nothing more is let in by such a token.
    """

    def __init__(self, most: int = MAX_USED) -> None:
        self._most = most
        self._used: dict[tuple[str, Way], bool] = {}
        self._ends: list[tuple[float, tuple[str, Way]]] = []

    def __len__(self) -> int:
        """How many are remembered."""
        return len(self._used)

    def add(self, name: str, way: Way, expires_s: float, now_s: float) -> None:
        """Note a use.

        Raises:
            AccessError: there was one.
            CapacityError: there is no room.
        """
        while self._ends and self._ends[0][0] <= now_s:
            del self._used[heapq.heappop(self._ends)[1]]
        use = name, way
        if self._used.get(use):
            raise AccessError("this token was for one connection, which was made: ask for another token")
        if use not in self._used:
            if len(self) >= self._most:
                raise CapacityError("too many tokens were used lately; try again later", _RETRY_AFTER_S)
            heapq.heappush(self._ends, (expires_s, use))
        self._used[use] = True

    def take_back(self, name: str, way: Way) -> None:
        """Note that a use came to nothing."""
        if (name, way) in self._used:
            self._used[name, way] = False


class Gate:
    """Checks tokens, and makes them.

    Args:
        secret: the key; None lets everyone do everything, for a server that only its own machine reaches.
        audience: `aud`.
        clock_s: Unix time.
    """

    def __init__(self, secret: bytes | None, audience: str, clock_s: Callable[[], float] = time.time) -> None:
        self._secret, self._audience, self._clock_s = secret, audience, clock_s
        self._used = Used()

    @property
    def is_open(self) -> bool:
        """Whether no tokens are asked for."""
        return self._secret is None

    def check(self, token: str | None, *, grace_s: float = 0.0) -> Grant:
        """Return what a token allows. The signature is compared in constant time.

        Args:
            token: as the client gave it; None is none at all.
            grace_s: how long after its end it still counts: who began something may also end it.

        Raises:
            AccessError: none, damaged, of another server, or expired.
        """
        if self._secret is None:
            return EVERYTHING
        if not token:
            raise AccessError("this needs a token: Authorization: Bearer ...")
        if len(token) > MAX_TOKEN_CHARS:
            raise AccessError("the token is too long")
        try:
            claims = jwt.decode(
                token,
                self._secret,
                algorithms=[_ALGORITHM],
                audience=self._audience,
                # The clock is ours, so that tests own it.
                options={
                    "require": ["exp", "aud"],
                    "verify_exp": False,
                    "verify_iat": False,
                    "verify_nbf": False,
                    "strict_aud": True,
                },
            )
        except (jwt.PyJWTError, ValueError, TypeError, RecursionError):
            raise AccessError("the token is not valid here") from None
        return self._grant(claims, grace_s)

    @contextmanager
    def joining(self, grant: Grant, way: Way) -> Iterator[None]:
        """Begin a connection by what a token allows; if the block raises, none was begun.

        Raises:
            AccessError: the token was for one, and that was begun.
            CapacityError: there is no room to remember it.
        """
        if not grant.once:
            yield
            return
        self._used.add(grant.name, way, grant.expires_s, self._clock_s())
        try:
            yield
        except BaseException:
            self._used.take_back(grant.name, way)
            raise

    def mint(
        self, roles: Iterable[str], session: str, life_s: float, *, once: bool = False
    ) -> tuple[str, float]:
        """Make a token.

        Args:
            roles: of `Role`.
            session: the one it is for, "*" for any.
            life_s: how long it holds, at most a day; with `once` at most five minutes.
            once: whether it begins one connection of each kind; not for "admin".

        Returns:
            The token, and its end as Unix time.

        Raises:
            AccessError: no such role, or the server has no secret.
        """
        wanted = frozenset(roles)
        if not wanted or not wanted <= ROLES:
            raise AccessError(f"roles are some of {', '.join(sorted(ROLES))}")
        if once and "admin" in wanted:
            raise AccessError("a token for one connection cannot give the role admin: name others")
        expires_s = int(self._clock_s() + min(life_s, ONCE_LIFE_S if once else MAX_LIFE_S))
        return self._signed(Grant(wanted, session, expires_s, secrets.token_urlsafe(12), once))

    def to_watch(self, grant: Grant, life_s: float) -> tuple[str, float]:
        """Make a token that gives no more than to view what another may view; it ends no later.

        Returns:
            The token, and its end as Unix time.
        """
        view = replace(grant, roles=frozenset({"view"}))
        if grant.once:  # the same name: what either begins counts for both
            return self._signed(view)
        expires_s = min(self._clock_s() + life_s, grant.expires_s)
        return self._signed(replace(view, expires_s=expires_s, name=secrets.token_urlsafe(12)))

    def _signed(self, grant: Grant) -> tuple[str, float]:
        if self._secret is None:
            raise AccessError("this server has no token secret: it asks for no tokens")
        claims = {
            "aud": self._audience,
            "session": grant.session,
            "roles": sorted(grant.roles),
            "exp": int(grant.expires_s),
            "jti": grant.name,
        }
        token = jwt.encode(
            claims | ({"once": True} if grant.once else {}), self._secret, algorithm=_ALGORITHM
        )
        return token, float(grant.expires_s)

    def _grant(self, claims: dict[str, object], grace_s: float) -> Grant:
        roles, session, expires_s = claims.get("roles"), claims.get("session"), claims.get("exp")
        if not isinstance(roles, list) or not isinstance(session, str) or type(expires_s) is not int:
            raise AccessError("the token lacks roles, session or exp")
        now_s = self._clock_s()
        if now_s >= expires_s + grace_s:
            raise AccessError("the token has expired")
        name, once = claims.get("jti", ""), claims.get("once", False)
        if not isinstance(name, str) or len(name) > _MAX_ID_CHARS or not isinstance(once, bool):
            raise AccessError(f"jti is a name of up to {_MAX_ID_CHARS} characters, once is true or false")
        given = frozenset(str(role) for role in roles) & ROLES
        if once and (not name or expires_s - now_s > ONCE_LIFE_S or "admin" in given):
            raise AccessError(
                f"a token for one connection has a jti, ends within {ONCE_LIFE_S} s, and is nobody's admin"
            )
        return Grant(given, session, float(expires_s), name, once)


def bearer(header: str | None) -> str | None:
    """The token of an `Authorization` header, None where there is none."""
    scheme, _, token = (header or "").strip().partition(" ")
    return token.strip() or None if scheme.lower() == "bearer" else None
