"""The record of a person's consent to be dubbed, and the rule that nothing is dubbed without one.

Pure: the current time comes in as an argument, and who overrides the rule gets the sentence to log.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from engine.errors import InputError

if TYPE_CHECKING:
    from engine.actor.pack import ActorPack

ANY_LANGUAGE = "*"
_LANGUAGE = re.compile(r"[A-Za-z]{2,3}(-[A-Za-z0-9]{1,8})*")  # the shape of a BCP 47 tag
_MAX_LANGUAGES = 256
_MAX_TEXT = 8192


@dataclass(frozen=True)
class ConsentRecord:
    """What a person has agreed to.

    Attributes:
        subject: the person who is filmed.
        granted_by: who gave consent: the subject, or who may act for them.
        purpose: what the dubs are for.
        languages: BCP 47 tags of the languages that may be dubbed into; "*" for any.
        granted_at: ISO 8601 instant with a UTC offset.
        expires_at: the same, or None when consent has no end.
        statement: the words that were agreed to.
    """

    subject: str
    granted_by: str
    purpose: str
    languages: tuple[str, ...]
    granted_at: str
    expires_at: str | None
    statement: str

    def __post_init__(self) -> None:
        """Refuse a record that says nothing, or says it in a form that cannot be checked."""
        for what in ("subject", "granted_by", "purpose", "statement"):
            check_text(f"consent.{what}", getattr(self, what), most=_MAX_TEXT, lines=what == "statement")
        if not 1 <= len(self.languages) <= _MAX_LANGUAGES:
            raise ValueError(f"consent.languages must name 1 to {_MAX_LANGUAGES}, got {len(self.languages)}")
        for tag in self.languages:
            if tag != ANY_LANGUAGE and not _LANGUAGE.fullmatch(tag):
                raise ValueError(f"consent.languages: {tag[:40]!r} is no BCP 47 tag")
        granted = parse_instant("consent.granted_at", self.granted_at)
        if self.expires_at is not None and parse_instant("consent.expires_at", self.expires_at) <= granted:
            raise ValueError("consent.expires_at must come after consent.granted_at")

    def check(self, now_iso: str, language: str | None = None) -> None:
        """Raise unless the consent holds at that time, and for that language if one is given.

        A tag covers its own subtags: "pt" covers "pt-BR", not the other way round.

        Raises:
            InputError: not given yet, expired, or another language.
            ValueError: `now_iso` is no instant with a UTC offset.
        """
        now = parse_instant("now", now_iso)
        if now < parse_instant("consent.granted_at", self.granted_at):
            raise InputError(f"the consent of {self.subject!r} holds only from {self.granted_at}")
        if self.expires_at is not None and now >= parse_instant("consent.expires_at", self.expires_at):
            raise InputError(
                f"the consent of {self.subject!r} expired at {self.expires_at}; ask for a new one"
            )
        if language is not None and not any(_covers(tag, language) for tag in self.languages):
            covered = ", ".join(self.languages)
            raise InputError(f"the consent of {self.subject!r} covers {covered}, not {language[:40]!r}")


def require_consent(
    pack: ActorPack, now_iso: str, *, override: bool = False, language: str | None = None
) -> str | None:
    """Refuse to go on without a valid consent, unless the operator overrides.

    Args:
        pack: whose actor is about to be dubbed.
        now_iso: ISO 8601 instant with a UTC offset.
        override: the operator takes the responsibility.
        language: BCP 47 tag of the dub, when it is known.

    Returns:
        None when the consent holds; when it was overridden, the sentence that the caller must log.

    Raises:
        InputError: no consent that holds, and no override.
    """
    try:
        consent = pack.manifest.consent
        if consent is None:
            raise InputError(f"actor {pack.manifest.name!r} carries no consent record")
        consent.check(now_iso, language)
    except InputError as error:
        if override:
            return f"dubbing without consent, by the operator's override: {error}"
        raise InputError(f"{error}; dubbing needs one, or the operator's explicit override") from None
    return None


def check_text(what: str, text: str, *, most: int, lines: bool = False, empty: bool = False) -> None:
    """Raise ValueError unless `text` is printable, not blank (or `empty`), and at most `most` characters.

    Control characters are refused because these texts are printed on terminals; `lines` allows line ends.
    """
    if len(text) > most:
        raise ValueError(f"{what} has {len(text)} characters, at most {most} are allowed")
    if not empty and not text.strip():
        raise ValueError(f"{what} must not be empty")
    if not (text.replace("\n", "") if lines else text).isprintable():
        raise ValueError(f"{what} has characters that cannot be printed: {text[:40]!r}")


def parse_instant(what: str, text: str) -> datetime:
    """The instant that an ISO 8601 text with a UTC offset names.

    Raises:
        ValueError: it names none.
    """
    try:
        instant = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError(f"{what} must be an ISO 8601 time, got {text[:40]!r}") from None
    if instant.tzinfo is None:
        raise ValueError(f"{what} must have a UTC offset, got {text[:40]!r}")
    return instant


def _covers(tag: str, language: str) -> bool:
    granted, wanted = tag.lower(), language.lower()
    return granted in {ANY_LANGUAGE, wanted} or wanted.startswith(granted + "-")
