"""What lips do in a sound, in nine classes, by the name of the sound: IPA as espeak-ng says it, or SAMPA."""

from collections.abc import Sequence

import numpy as np

from engine.arrays import U8
from engine.timing import MEL_RATE_HZ
from export.phones import Phone

CLASSES = ("silence", "closed", "lip-teeth", "round", "open", "spread", "central", "protruded", "other")
SILENCE, CLOSED, LIP_TEETH, ROUND, OPEN, SPREAD, CENTRAL, PROTRUDED, OTHER = range(9)

_VOWELS = {
    ROUND: "uʊyʏʉoɔɒøœɵɞɶ" + "UYOQ29&8}",
    OPEN: "aɑæʌɐä" + "A{V6",
    SPREAD: "iɪeɛ" + "IE",
    CENTRAL: "əɚɜɝɨɯɤɘ" + "@31M",
}
_CONSONANTS = {
    CLOSED: "pbmɓʙ",
    LIP_TEETH: "fvʋɱɸβ" + "P",
    ROUND: "wɥʍɰ" + "WH",
    PROTRUDED: "ʃʒʂʐɕʑɹɻ" + "SZ",
    SPREAD: "j",
    OTHER: "tdkɡgqcɟʔszθðxɣχʁhɦçlɫrɾʀnŋɲɳɭʎʈɖʝħʕɬɮɴ" + "TDGNRLJKCXhBF4PxX?",
}
_OF_IPA = {
    symbol: lips for table in (_CONSONANTS, _VOWELS) for lips, symbols in table.items() for symbol in symbols
}
_VOWEL_SYMBOLS = frozenset("".join(_VOWELS.values()))


def lips_in(name: str) -> tuple[int, ...]:
    """The classes that a sound goes through: two for a diphthong or "pf", else one.

    >>> [CLASSES[one] for one in lips_in("ˈaʊ")]
    ['open', 'round']
    """
    known = [one for at, one in enumerate(name) if one in _OF_IPA and (at == 0 or not one.isdigit())]
    if not known:
        return (OTHER,)
    vowels = [symbol for symbol in known if symbol in _VOWEL_SYMBOLS]
    if vowels and known[0] in _VOWEL_SYMBOLS:
        first, last = _OF_IPA[vowels[0]], _OF_IPA[vowels[-1]]
        return (first,) if first == last else (first, last)
    consonants = [_OF_IPA[symbol] for symbol in known]
    if PROTRUDED in consonants:  # affricates
        return (PROTRUDED,)
    lips = [one for one in consonants if one in {CLOSED, LIP_TEETH}]
    if len(set(lips)) == 2:
        return (lips[0], lips[1])
    return (consonants[0],)


def lip_labels(phones: Sequence[Phone], count: int) -> U8:
    """Classes over time.

    Args:
        phones: in order.
        count: of hundredths of a second.

    Returns:
        uint8 [count]: what lips do at (n + 0.5) / 100 s; silence where there is no sound.
    """
    labels = np.full(count, SILENCE, np.uint8)
    for phone in phones:
        if phone.silent:
            continue
        lips = lips_in(phone.name)
        edges = np.linspace(phone.start_s, phone.end_s, len(lips) + 1) * MEL_RATE_HZ
        for one, begin, end in zip(lips, edges, edges[1:], strict=False):
            labels[max(0, round(begin)) : max(0, round(end))] = one
    return labels
