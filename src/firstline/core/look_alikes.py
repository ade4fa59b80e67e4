"""Letters that a reader takes for a Latin letter although they are another character.

Two kinds. `ALWAYS` holds characters of styles and scripts that firstline supports no language of: they are read as
Latin wherever they stand. `BETWEEN_SCRIPTS` holds Cyrillic and Greek letters: in a Russian word they are themselves;
in a word of Latin letters they are a disguise; `BETWEEN_SCRIPTS_BACK` is the way back. Shapes after Unicode Technical
Standard 39, "Unicode Security Mechanisms", chosen by hand for lower-case forms.
"""

from typing import Final


def _pairs(shapes: str, letters: str) -> dict[str, str]:
    return dict(zip(shapes, letters, strict=True))


BETWEEN_SCRIPTS: Final[dict[str, str]] = {
    # Cyrillic, lower case (text is lower-cased before look-alikes are read)
    **_pairs("асеохрукіјѕһԁԛԝмтвнү", "aceoxpykijshdqwmtbhy"),
    "ӏ": "l",
    "ө": "o",
    "є": "e",
    "ё": "e",
    "ї": "i",
    "ғ": "f",
    "ѵ": "v",
    # Greek, lower case, accents already removed
    **_pairs("αοερτυικνχγηωβσμ", "aoeptuikvxynwbou"),
    "ϲ": "c",
    "ϳ": "j",
}

BETWEEN_SCRIPTS_BACK: Final[dict[str, str]] = {
    "a": "а", "c": "с", "e": "е", "o": "о", "p": "р", "x": "х", "y": "у", "k": "к", "m": "м", "t": "т", "b": "в",
    "h": "н", "i": "і",
}  # fmt: skip

ALWAYS: Final[dict[str, str]] = {
    # Latin letters outside a-z that people use as plain ones
    "ß": "ss", "ẞ": "ss", "æ": "ae", "œ": "oe", "ø": "o", "ł": "l", "đ": "d", "ð": "d", "þ": "th", "ħ": "h",
    "ŧ": "t", "ı": "i", "ȷ": "j", "ĸ": "k", "ŋ": "n", "ɑ": "a", "ɡ": "g", "ɩ": "i", "ɪ": "i", "ʏ": "y",
    "ƅ": "b", "ɓ": "b", "ɗ": "d", "ɛ": "e", "ɘ": "e", "ə": "e", "ǝ": "e", "ɠ": "g", "ɦ": "h", "ɨ": "i", "ƙ": "k",
    "ƚ": "l", "ɫ": "l", "ɯ": "m", "ɲ": "n", "ɔ": "c", "ƈ": "c", "ƥ": "p", "ʠ": "q", "ɾ": "r", "ʂ": "s", "ƭ": "t",
    "ʈ": "t", "ʉ": "u", "ʋ": "v", "ʍ": "w", "ɰ": "w", "ƴ": "y", "ƶ": "z", "ɐ": "a", "ɥ": "h", "ʇ": "t", "ʌ": "v",
    "ʎ": "y", "ɹ": "r", "ʞ": "k",
    # small capitals
    **_pairs("ᴀʙᴄᴅᴇꜰɢʜɪᴊᴋʟᴍɴᴏᴘꞯʀꜱᴛᴜᴠᴡʏᴢ", "abcdefghijklmnopqrstuvwyz"),
    # Armenian
    **_pairs("ոսօհցյզռ", "nuohgjqn"),
    # Cherokee lower and upper case
    **_pairs("ꭺꮯꭼꮋꮖꭻꮶꮮꮇꮲꮪꭲꮩꮃꮓꭰꭱꮢ", "acehijklmpstvwzder"),
    **_pairs("ᎪᏴᏟᎬᎻᏆᎫᏦᏞᎷᏢᏚᎢᏙᎳᏃᎠᎡᏒ", "abcehijklmpstvwzder"),
    # Lisu
    **_pairs("ꓮꓐꓚꓓꓰꓝꓖꓧꓲꓙꓗꓡꓟꓠꓳꓑꓣꓢꓔꓴꓦꓪꓫꓬꓜ", "abcdefghijklmnoprstuvwxyz"),
    # Arabic and Persian spellings of one letter
    "أ": "ا", "إ": "ا", "آ": "ا", "ٱ": "ا", "ى": "ي", "ی": "ي", "ئ": "ي", "ؤ": "و", "ة": "ه", "ک": "ك", "ـ": "",
    # invisible letters
    "ㅤ": "", "ᅟ": "", "ᅠ": "", "ﾠ": "", "⠀": " ",
}  # fmt: skip


def _letters(first: int, letters: str = "abcdefghijklmnopqrstuvwxyz") -> dict[str, str]:
    return {chr(first + offset): letter for offset, letter in enumerate(letters)}


# Enclosed letters and flags that compatibility normalisation leaves alone.
ALWAYS.update(_letters(0x1F150))
ALWAYS.update(_letters(0x1F170))
ALWAYS.update(_letters(0x1F1E6))

LEET: Final[dict[str, str]] = {
    "0": "o", "3": "e", "4": "a", "5": "s", "7": "t", "8": "b", "9": "g", "@": "a", "$": "s", "€": "e", "£": "l",
    "+": "t", "§": "s", "¢": "c",
}  # fmt: skip
"""Digits and signs written for letters. `1`, `!` and `|` stand for l as often as for i and are tried as both."""
