"""Tokens: who may publish, view, control or administer which session, and until when.

JWT, HS256: `aud` as configured, `session` a name or "*", `roles` a list, `exp`. They travel in the
`Authorization` header; a browser, which cannot set one on a WebSocket, offers the subprotocol "token.JWT" or
sends it in the first message. They are never part of an address, and never logged.
"""

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal, get_args

import jwt

from engine.errors import AccessError

Role = Literal["publish", "view", "control", "admin"]
ROLES: frozenset[str] = frozenset(get_args(Role))
ANY_SESSION = "*"
MAX_TOKEN_CHARS = 4096
MAX_LIFE_S = 24 * 3600
_ALGORITHM = "HS256"


@dataclass(frozen=True)
class Grant:
    """What a token allows.

    Attributes:
        roles: of `Role`; "admin" includes the others.
        session: the one it is for, "*" for any.
        expires_s: Unix time.
    """

    roles: frozenset[str]
    session: str
    expires_s: float

    def allows(self, role: Role, session: str | None) -> bool:
        """Whether it gives that right over that session; None is the server as a whole."""
        right = role in self.roles or "admin" in self.roles
        return right and self.session in {ANY_SESSION, session}


EVERYTHING = Grant(ROLES, ANY_SESSION, float("inf"))


class Gate:
    """Checks tokens, and makes them.

    Args:
        secret: the key; None lets everyone do everything, for a server that only its own machine reaches.
        audience: `aud`.
        clock_s: Unix time.
    """

    def __init__(self, secret: bytes | None, audience: str, clock_s: Callable[[], float] = time.time) -> None:
        self._secret, self._audience, self._clock_s = secret, audience, clock_s

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

    def mint(self, roles: Iterable[str], session: str, life_s: float) -> tuple[str, float]:
        """Make a token.

        Returns:
            The token, and its end as Unix time.

        Raises:
            AccessError: no such role, or the server has no secret.
        """
        wanted = frozenset(roles)
        if not wanted or not wanted <= ROLES:
            raise AccessError(f"roles are some of {', '.join(sorted(ROLES))}")
        if self._secret is None:
            raise AccessError("this server has no token secret: it asks for no tokens")
        expires_s = int(self._clock_s() + min(life_s, MAX_LIFE_S))
        claims = {"aud": self._audience, "session": session, "roles": sorted(wanted), "exp": expires_s}
        return jwt.encode(claims, self._secret, algorithm=_ALGORITHM), float(expires_s)

    def _grant(self, claims: dict[str, object], grace_s: float) -> Grant:
        roles, session, expires_s = claims.get("roles"), claims.get("session"), claims.get("exp")
        if not isinstance(roles, list) or not isinstance(session, str) or type(expires_s) is not int:
            raise AccessError("the token lacks roles, session or exp")
        if self._clock_s() >= expires_s + grace_s:
            raise AccessError("the token has expired")
        return Grant(frozenset(str(role) for role in roles) & ROLES, session, float(expires_s))


def bearer(header: str | None) -> str | None:
    """The token of an `Authorization` header, None where there is none."""
    scheme, _, token = (header or "").strip().partition(" ")
    return token.strip() or None if scheme.lower() == "bearer" else None
