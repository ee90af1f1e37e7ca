"""Languages that the page offers first, each with a sentence to begin with."""

from typing import Final

# Code of the voice, the language's own name, a sentence.
FEATURED: Final = (
    ("en-us", "English (US)", "Hello! I never said these words, and yet my lips follow every one of them."),
    ("en-gb", "English (UK)", "Good evening. Here is the news, in a voice that is not mine."),
    ("de", "Deutsch", "Guten Tag! Diese Worte habe ich nie gesagt, und doch folgen ihnen meine Lippen."),
    ("es", "Español", "¡Hola! Nunca dije estas palabras y, sin embargo, mis labios las siguen."),
    ("fr-fr", "Français", "Bonjour ! Je n'ai jamais dit ces mots, et pourtant mes lèvres les suivent."),
    ("it", "Italiano", "Ciao! Non ho mai detto queste parole, eppure le mie labbra le seguono."),
    ("pt-br", "Português (Brasil)", "Olá! Eu nunca disse estas palavras, mas os meus lábios as acompanham."),
    ("pl", "Polski", "Dzień dobry! Nigdy nie wypowiedziałam tych słów, a moje usta za nimi podążają."),
    ("ru", "Русский", "Здравствуйте! Я никогда не говорила этих слов, но мои губы следуют за ними."),
    ("cmn", "中文", "你好!我从来没有说过这些话,可是我的嘴唇跟着它们动。"),
    ("ja", "日本語", "こんにちは。わたしは このことばを いったことが ありません。"),
    ("hi", "हिन्दी", "नमस्ते! मैंने ये शब्द कभी नहीं कहे, फिर भी मेरे होंठ उनके साथ चलते हैं।"),
    ("ar", "العربية", "مرحبا! لم أقل هذه الكلمات قط، ومع ذلك تتبعها شفتاي."),
    ("tr", "Türkçe", "Merhaba! Bu sözleri hiç söylemedim, ama dudaklarım onları izliyor."),
    ("uk", "Українська", "Вітаю! Я ніколи не казала цих слів, але мої губи йдуть за ними."),
)
