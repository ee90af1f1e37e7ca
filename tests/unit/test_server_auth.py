import jwt
import pytest

from engine.errors import AccessError
from streaming.server.auth import EVERYTHING, MAX_LIFE_S, Gate, bearer

SECRET = b"k" * 64
NOW_S = 1_800_000_000.0


class Clock:
    def __init__(self) -> None:
        self.now_s = NOW_S

    def __call__(self) -> float:
        return self.now_s


def signed(secret: bytes = SECRET, algorithm: str = "HS256", **changes: object) -> str:
    claims = {"aud": "livedub", "session": "show", "roles": ["view"], "exp": int(NOW_S) + 60}
    claims |= changes
    return jwt.encode(
        {name: value for name, value in claims.items() if value is not None}, secret, algorithm=algorithm
    )


def test_a_token_gives_what_it_says_and_no_more() -> None:
    gate = Gate(SECRET, "livedub", Clock())
    token, expires_s = gate.mint(["publish", "view"], "show", 60)
    grant = gate.check(token)
    assert expires_s == NOW_S + 60
    assert grant.allows("publish", "show")
    assert grant.allows("view", "show")
    assert not grant.allows("control", "show")
    assert not grant.allows("view", "other")
    assert not grant.allows("view", None)


def test_an_admin_may_do_everything_where_its_token_counts() -> None:
    gate = Gate(SECRET, "livedub", Clock())
    assert gate.check(gate.mint(["admin"], "*", 60)[0]).allows("control", "any")
    assert gate.check(gate.mint(["admin"], "*", 60)[0]).allows("admin", None)
    assert not gate.check(gate.mint(["admin"], "show", 60)[0]).allows("admin", None)


def test_a_token_ends_and_may_be_given_grace() -> None:
    clock = Clock()
    gate = Gate(SECRET, "livedub", clock)
    token, _ = gate.mint(["view"], "show", 60)
    clock.now_s += 59.9
    gate.check(token)
    clock.now_s += 0.1
    with pytest.raises(AccessError, match="expired"):
        gate.check(token)
    assert gate.check(token, grace_s=1).session == "show"


def test_no_token_lives_for_ever() -> None:
    assert Gate(SECRET, "livedub", Clock()).mint(["view"], "*", 1e9)[1] == NOW_S + MAX_LIFE_S


@pytest.mark.parametrize(
    "token",
    [
        None,
        "",
        "x",
        "a.b.c",
        "é" * 40,
        "x" * 5000,
        signed(b"other" * 8),
        signed(aud="another"),
        signed(aud=["livedub", "another"]),
        signed(aud=None),
        signed(exp=None),
        signed(exp=int(NOW_S)),
        signed(exp="soon"),
        signed(session=None),
        signed(session=7),
        signed(roles="view"),
        signed(roles=None),
        signed(algorithm="HS512"),
        jwt.encode(
            {"aud": "livedub", "session": "*", "roles": ["admin"], "exp": 2**40}, "", algorithm="none"
        ),
    ],
    ids=range(19),
)
def test_everything_else_is_refused(token: str | None) -> None:
    with pytest.raises(AccessError) as refused:
        Gate(SECRET, "livedub", Clock()).check(token)
    assert not token or token not in str(refused.value)


def test_unknown_roles_give_nothing() -> None:
    grant = Gate(SECRET, "livedub", Clock()).check(signed(roles=["root", "view"]))
    assert grant.roles == {"view"}


def test_a_server_without_a_secret_asks_for_nothing_and_makes_nothing() -> None:
    gate = Gate(None, "livedub")
    assert gate.is_open
    assert gate.check(None) is EVERYTHING
    with pytest.raises(AccessError, match="no token secret"):
        gate.mint(["view"], "*", 60)


@pytest.mark.parametrize("roles", [[], ["root"], ["view", "root"]])
def test_only_known_roles_are_minted(roles: list[str]) -> None:
    with pytest.raises(AccessError, match="roles are some of"):
        Gate(SECRET, "livedub").mint(roles, "*", 60)


@pytest.mark.parametrize(
    ("header", "token"),
    [(None, None), ("", None), ("Bearer", None), ("Basic x", None), ("Bearer x", "x"), ("bearer  x ", "x")],
)
def test_the_header(header: str | None, token: str | None) -> None:
    assert bearer(header) == token
