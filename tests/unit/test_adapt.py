import pytest

pytest.importorskip("torch")

from engine.actor.consent import ANY_LANGUAGE
from export.adapt import AdaptOptions, attestation
from export.learner import LearnOptions

NOW = "2026-01-01T00:00:00+00:00"


def test_without_a_consent_file_the_operator_attests() -> None:
    record = attestation("Ada", NOW)
    assert (record.subject, record.granted_at, record.expires_at) == ("Ada", NOW, None)
    assert "operator" in record.granted_by
    assert record.languages == (ANY_LANGUAGE,)


def test_options_are_those_of_learning_and_of_the_footage() -> None:
    options = AdaptOptions(seconds=4.0, start="scratch")
    assert isinstance(options, LearnOptions)
    assert (options.start_s, options.start, options.mixed, options.steps) == (0.0, "scratch", True, None)
