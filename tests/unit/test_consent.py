from typing import Any

import pytest

from engine.actor.consent import check_text, parse_instant, require_consent
from engine.errors import InputError
from tests.support.packs import make_consent, make_manifest, make_pack

NOW = "2026-06-01T12:00:00Z"


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"subject": " "}, "consent.subject must not be empty"),
        ({"granted_by": ""}, "consent.granted_by must not be empty"),
        ({"purpose": "a\nb"}, "consent.purpose has characters that cannot be printed"),
        ({"statement": ""}, "consent.statement must not be empty"),
        ({"statement": "x" * 9000}, "at most 8192"),
        ({"languages": ()}, "consent.languages must name 1"),
        ({"languages": ("german language",)}, "no BCP 47 tag"),
        ({"granted_at": "last week"}, "must be an ISO 8601 time"),
        ({"granted_at": "2026-01-01T00:00:00"}, "must have a UTC offset"),
        ({"expires_at": "2026-01-01T00:00:00Z"}, "must come after"),
    ],
)
def test_a_record_that_cannot_be_checked_is_refused(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        make_consent(**changes)


@pytest.mark.parametrize(
    "now", ["2026-01-01T00:00:00Z", NOW, "2026-12-31T23:59:59Z", "2027-01-01T00:59:59+01:00"]
)
def test_consent_holds_from_its_grant_until_it_expires(now: str) -> None:
    consent = make_consent()
    assert require_consent(make_pack(manifest=make_manifest(consent=consent)), now) is None


@pytest.mark.parametrize(
    ("now", "said"),
    [
        ("2025-12-31T23:59:59Z", "holds only from"),
        ("2027-01-01T00:00:00Z", "expired at"),
        ("2027-01-01T01:00:00+01:00", "expired at"),
    ],
)
def test_outside_that_time_it_does_not(now: str, said: str) -> None:
    with pytest.raises(InputError, match=said):
        make_consent().check(now)


def test_consent_without_an_end_holds_on() -> None:
    consent = make_consent(expires_at=None)
    consent.check("2999-01-01T00:00:00Z")
    with pytest.raises(InputError, match="holds only from"):
        consent.check("1999-01-01T00:00:00Z")


@pytest.mark.parametrize(
    ("granted", "wanted", "covered"),
    [
        (("de", "pt"), "pt", True),
        (("pt",), "pt-BR", True),
        (("pt",), "PT-br", True),
        (("pt-BR",), "pt", False),
        (("pt",), "ptx", False),
        (("de",), "fr", False),
        (("*",), "fr", True),
    ],
)
def test_languages(granted: tuple[str, ...], wanted: str, covered: bool) -> None:
    consent = make_consent(languages=granted)
    if covered:
        assert (
            require_consent(make_pack(manifest=make_manifest(consent=consent)), NOW, language=wanted) is None
        )
    else:
        with pytest.raises(InputError, match="covers"):
            consent.check(NOW, wanted)


def test_no_dub_without_consent_unless_overridden() -> None:
    pack = make_pack(manifest=make_manifest(consent=None))
    with pytest.raises(InputError, match="carries no consent record; dubbing needs one, or the operator's"):
        require_consent(pack, NOW)
    said = require_consent(pack, NOW, override=True)
    assert (
        said == "dubbing without consent, by the operator's override: actor 'Ada' carries no consent record"
    )


def test_an_override_over_an_expired_consent_says_so() -> None:
    said = require_consent(make_pack(), "2030-01-01T00:00:00Z", override=True)
    assert said is not None
    assert "expired at 2027-01-01T00:00:00Z" in said
    assert require_consent(make_pack(), NOW, override=True) is None


def test_a_time_without_an_offset_is_our_mistake() -> None:
    with pytest.raises(ValueError, match="now must have a UTC offset"):
        make_consent().check("2026-06-01T12:00:00")
    assert parse_instant("now", "2026-06-01T12:00:00+02:00") == parse_instant("now", "2026-06-01T10:00:00Z")


def test_text_may_be_empty_or_have_lines_only_where_allowed() -> None:
    check_text("rights", "", most=5, empty=True)
    check_text("statement", "a\nb", most=5, lines=True)
    with pytest.raises(ValueError, match="cannot be printed"):
        check_text("statement", "a\rb", most=5, lines=True)
