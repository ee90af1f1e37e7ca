"""Pauses between attempts grow, are bounded, and end."""

from hypothesis import given, settings
from hypothesis import strategies as st

from streaming.media.patience import FIRST_S, GONE_S, LONGEST_S, STEADY_S, Patience
from streaming.types import NS_PER_S


def test_what_never_gave_a_picture_is_not_asked_again() -> None:
    assert Patience().pause_s(0) is None


def test_pauses_double_up_to_the_longest_and_end_after_a_minute() -> None:
    patience, now_s, pauses_s = Patience(), 0.0, []
    assert patience.picture(0)
    while (pause_s := patience.pause_s(round(now_s * NS_PER_S))) is not None:
        pauses_s.append(pause_s)
        now_s += pause_s
    assert pauses_s[:6] == [FIRST_S, 1, 2, 4, LONGEST_S, LONGEST_S]
    assert now_s == GONE_S


def test_after_steady_pictures_an_outage_is_a_new_one() -> None:
    patience = Patience()
    patience.picture(0)
    assert [patience.pause_s(0) for _ in range(3)] == [0.5, 1, 2]
    assert patience.picture(NS_PER_S)
    assert patience.pause_s(NS_PER_S) == 4
    for second in range(round(STEADY_S) + 1):
        assert patience.picture((10 + second) * NS_PER_S) == (second == 0)
    assert patience.pause_s(16 * NS_PER_S) == FIRST_S


@settings(deadline=None, max_examples=50)
@given(st.lists(st.tuples(st.integers(0, 20), st.booleans()), max_size=60))
def test_a_pause_is_never_shorter_or_longer_than_it_may_be(happened: list[tuple[int, bool]]) -> None:
    patience, now_s = Patience(), 0
    for passed_s, picture in happened:
        now_s += passed_s
        if picture:
            patience.picture(now_s * NS_PER_S)
        elif (pause_s := patience.pause_s(now_s * NS_PER_S)) is not None:
            assert 0 < pause_s <= LONGEST_S
