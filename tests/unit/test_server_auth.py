import jwt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.errors import AccessError, CapacityError
from streaming.server.auth import EVERYTHING, MAX_LIFE_S, ONCE_LIFE_S, Gate, Used, Way, bearer

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
        signed(jti=7),
        signed(jti="x" * 65),
        signed(jti="x", once="yes"),
        signed(once=True),
        signed(jti="x", once=True, exp=int(NOW_S) + ONCE_LIFE_S + 1),
        signed(jti="x", once=True, roles=["admin"]),
        jwt.encode(
            {"aud": "livedub", "session": "*", "roles": ["admin"], "exp": 2**40}, "", algorithm="none"
        ),
    ],
    ids=range(25),
)
def test_everything_else_is_refused(token: str | None) -> None:
    with pytest.raises(AccessError) as refused:
        Gate(SECRET, "livedub", Clock()).check(token)
    assert not token or token not in str(refused.value)


def join(gate: Gate, token: str, way: Way) -> None:
    with gate.joining(gate.check(token), way):
        pass


def test_every_token_has_a_name_of_its_own() -> None:
    gate = Gate(SECRET, "livedub", Clock())
    names = {gate.check(gate.mint(["view"], "show", 60)[0]).name for _ in range(8)}
    assert len(names) == 8
    assert "" not in names


def test_a_token_for_one_connection_begins_one_of_each_kind() -> None:
    clock = Clock()
    gate = Gate(SECRET, "livedub", clock)
    token, expires_s = gate.mint(["view", "publish"], "show", 3600, once=True)
    other = gate.mint(["view"], "show", 3600, once=True)[0]
    assert expires_s == NOW_S + ONCE_LIFE_S
    for way in ("view", "publish", "stream"):
        join(gate, token, way)
        with pytest.raises(AccessError, match="for one connection, which was made"):
            join(gate, token, way)
    join(gate, other, "view")
    clock.now_s += ONCE_LIFE_S
    with pytest.raises(AccessError, match="expired"):
        join(gate, token, "view")
    assert len(gate._used) == 4
    join(gate, gate.mint(["view"], "show", 60, once=True)[0], "view")
    assert len(gate._used) == 1


def test_a_connection_that_was_not_made_does_not_count() -> None:
    gate = Gate(SECRET, "livedub", Clock())
    grant = gate.check(gate.mint(["view"], "show", 60, once=True)[0])
    for _ in range(3):
        with pytest.raises(KeyError), gate.joining(grant, "view"):
            raise KeyError
    with gate.joining(grant, "view"), pytest.raises(AccessError), gate.joining(grant, "view"):
        pass
    with pytest.raises(AccessError), gate.joining(grant, "view"):
        pass
    assert len(gate._used) == 1


def test_other_tokens_join_as_often_as_they_like() -> None:
    gate = Gate(SECRET, "livedub", Clock())
    for token in (gate.mint(["view"], "show", 60)[0], signed(), signed(jti="x"), signed(once=False)):
        join(gate, token, "view")
        join(gate, token, "view")
    assert len(gate._used) == 0


def test_nobody_administers_by_a_token_for_one_connection() -> None:
    with pytest.raises(AccessError, match="cannot give the role admin"):
        Gate(SECRET, "livedub", Clock()).mint(["admin", "view"], "*", 60, once=True)


@pytest.mark.parametrize("once", [False, True])
def test_what_lets_watch_gives_no_more_than_what_it_comes_from(once: bool) -> None:
    gate = Gate(SECRET, "livedub", Clock())
    grant = gate.check(gate.mint(["publish", "view"], "show", 60, once=once)[0])
    for life_s in (10, 3600):
        token, expires_s = gate.to_watch(grant, life_s)
        watching = gate.check(token)
        assert watching.roles == {"view"}
        assert (watching.session, watching.once) == ("show", once)
        assert watching.expires_s == expires_s <= grant.expires_s
        assert (watching.name == grant.name) == once


@given(
    st.integers(1, 4),
    st.lists(
        st.tuples(
            st.integers(0, 5), st.sampled_from(["view", "stream"]), st.integers(1, 9), st.integers(0, 4)
        ),
        max_size=40,
    ),
)
@settings(deadline=None, max_examples=50)
def test_uses_are_remembered_until_their_end_and_are_never_too_many(
    most: int, uses: list[tuple[int, Way, int, int]]
) -> None:
    """Against a list that is searched; every third use comes to nothing."""
    used, noted, now_s = Used(most), dict[tuple[str, Way], tuple[float, bool]](), 0.0
    for number, (token, way, life_s, step_s) in enumerate(uses):
        now_s += step_s
        use, name = (str(token), way), str(token)
        noted = {key: value for key, value in noted.items() if value[0] > now_s}
        ends_s = noted[use][0] if use in noted else now_s + life_s
        if use in noted and noted[use][1]:
            with pytest.raises(AccessError):
                used.add(name, way, ends_s, now_s)
        elif use not in noted and len(noted) >= most:
            with pytest.raises(CapacityError):
                used.add(name, way, ends_s, now_s)
        else:
            used.add(name, way, ends_s, now_s)
            noted[use] = ends_s, number % 3 != 0
            if number % 3 == 0:
                used.take_back(name, way)
        assert len(used) == len(noted) <= most
        assert len(used._ends) <= most


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
