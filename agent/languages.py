"""Languages: English names, own names and BCP-47 codes in, codes and English names out.

    parse_language("German") == parse_language("de") == Language("de", "German")
    parse_language("pt_br").code == "pt-BR"

The list is Whisper's hundred languages (github.com/openai/whisper, `tokenizer.py`, under
their present codes) and further ones that large speech models are trained on. An engine may
know fewer: it says so when it is asked.
"""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass
from typing import Annotated

from pydantic import AfterValidator

_MOST_CHARS = 60

# code: English name, then other names it goes by.
_TABLE = """
af: Afrikaans
am: Amharic; አማርኛ
ar: Arabic; العربية
as: Assamese
az: Azerbaijani; Azeri
ba: Bashkir
be: Belarusian; беларуская
bg: Bulgarian; български
bn: Bengali; Bangla; বাংলা
bo: Tibetan
br: Breton; brezhoneg
bs: Bosnian; bosanski
ca: Catalan; Valencian; català
ceb: Cebuano
co: Corsican
cs: Czech; čeština
cy: Welsh; Cymraeg
da: Danish; dansk
de: German; Deutsch
el: Greek; ελληνικά
en: English
eo: Esperanto
es: Spanish; Castilian; español
et: Estonian; eesti
eu: Basque; euskara
fa: Persian; Farsi; فارسی
fi: Finnish; suomi
fo: Faroese
fr: French; français
fy: Frisian; Western Frisian; Frysk
ga: Irish; Gaeilge
gd: Scottish Gaelic; Gàidhlig
gl: Galician; galego
gu: Gujarati; ગુજરાતી
ha: Hausa
haw: Hawaiian
he: Hebrew; עברית
hi: Hindi; हिन्दी
hmn: Hmong
hr: Croatian; hrvatski
ht: Haitian Creole; Haitian
hu: Hungarian; magyar
hy: Armenian; հայերեն
id: Indonesian; Bahasa Indonesia
ig: Igbo
ilo: Ilocano
is: Icelandic; íslenska
it: Italian; italiano
ja: Japanese; 日本語
jv: Javanese
ka: Georgian; ქართული
kk: Kazakh
km: Khmer; ខ្មែរ
kn: Kannada; ಕನ್ನಡ
ko: Korean; 한국어
ku: Kurdish; Kurmanji
ky: Kyrgyz
la: Latin
lb: Luxembourgish; Letzeburgesch; Lëtzebuergesch
lg: Luganda; Ganda
ln: Lingala
lo: Lao
lt: Lithuanian; lietuvių
lv: Latvian; latviešu
mai: Maithili
mg: Malagasy
mi: Maori; Māori
mk: Macedonian; македонски
ml: Malayalam; മലയാളം
mn: Mongolian
mr: Marathi; मराठी
ms: Malay; Bahasa Melayu
mt: Maltese; Malti
my: Burmese; Myanmar
ne: Nepali; नेपाली
nl: Dutch; Flemish; Nederlands
nn: Norwegian Nynorsk; Nynorsk
no: Norwegian; Norwegian Bokmål; Bokmål; norsk
ny: Chichewa; Nyanja
oc: Occitan
om: Oromo
or: Odia; Oriya
pa: Punjabi; Panjabi; ਪੰਜਾਬੀ
pl: Polish; polski
ps: Pashto; Pushto
pt: Portuguese; português
qu: Quechua
ro: Romanian; Moldavian; Moldovan; română
ru: Russian; русский
rw: Kinyarwanda
sa: Sanskrit
sd: Sindhi
si: Sinhala; Sinhalese
sk: Slovak; slovenčina
sl: Slovenian; Slovene; slovenščina
sm: Samoan
sn: Shona
so: Somali
sq: Albanian; shqip
sr: Serbian; српски; srpski
st: Sesotho; Southern Sotho
su: Sundanese
sv: Swedish; svenska
sw: Swahili; Kiswahili
ta: Tamil; தமிழ்
te: Telugu; తెలుగు
tg: Tajik
th: Thai; ไทย
ti: Tigrinya
tk: Turkmen
tl: Tagalog; Filipino
tn: Tswana
tr: Turkish; Türkçe
tt: Tatar
ug: Uyghur
uk: Ukrainian; українська
ur: Urdu; اردو
uz: Uzbek
vi: Vietnamese; tiếng Việt
xh: Xhosa
yi: Yiddish
yo: Yoruba
yue: Cantonese
zh: Chinese; Mandarin; 中文
zu: Zulu
"""

# Codes of the same languages that are old, or of a form of them that has no row of its own.
_OTHER_CODES = {
    "cmn": "zh",
    "fil": "tl",
    "in": "id",
    "iw": "he",
    "ji": "yi",
    "jw": "jv",
    "mo": "ro",
    "nb": "no",
}

_SUBTAGS = re.compile(r"([a-z]{2,3})((?:-[a-z0-9]{2,8})*)")


@dataclass(frozen=True, slots=True)
class Language:
    """One language.

    Attributes:
        code: BCP-47, in its usual spelling: `de`, `pt-BR`, `zh-Hant-TW`.
        name: In English, of the language without its region: `Portuguese`.
    """

    code: str
    name: str

    @property
    def primary(self) -> str:
        """The code without script and region."""
        return self.code.partition("-")[0]


def _read_table() -> tuple[dict[str, str], dict[str, str]]:
    names: dict[str, str] = {}
    codes: dict[str, str] = {}
    for row in _TABLE.strip().splitlines():
        code, _, known_as = row.partition(": ")
        others = known_as.split("; ")
        names[code] = others[0]
        codes |= {name.casefold(): code for name in others}
    return names, codes


_NAMES, _CODES_BY_NAME = _read_table()

LANGUAGES = tuple(Language(code, name) for code, name in _NAMES.items())
"""All that are known, by code."""


def parse_language(value: str) -> Language:
    """A language from its BCP-47 code or its name, in any case.

    Raises:
        ValueError: It is not known; a sentence that names the nearest that is.
    """
    language = find_language(value)
    if language is None:
        raise ValueError(_refusal(value))
    return language


def _code(value: str) -> str:
    return parse_language(value).code


LanguageCode = Annotated[str, AfterValidator(_code)]
"""For settings and events: a code or a name, held as the code."""


def find_language(value: str) -> Language | None:
    """As `parse_language`, None when it is not known."""
    asked = " ".join(value.split()).casefold()
    code = _CODES_BY_NAME.get(asked)
    if code is not None:
        return Language(code, _NAMES[code])
    match = _SUBTAGS.fullmatch(asked.replace("_", "-"))
    if match is None:
        return None
    primary = _OTHER_CODES.get(match[1], match[1])
    if primary not in _NAMES:
        return None
    subtags = [_spelled(subtag) for subtag in match[2].split("-")[1:]]
    return Language("-".join([primary, *subtags]), _NAMES[primary])


def _spelled(subtag: str) -> str:
    """A subtag as BCP-47 (RFC 5646, 2.1.1) recommends to write it: `Latn`, `BR`, `1996`."""
    if len(subtag) == 4 and subtag.isalpha():
        return subtag.title()
    return subtag.upper() if len(subtag) == 2 else subtag


def _refusal(value: str) -> str:
    asked = value[:_MOST_CHARS].casefold().replace("_", "-")
    close = difflib.get_close_matches(asked, _CODES_BY_NAME, n=1)
    code = _CODES_BY_NAME[close[0]] if close else None
    if code is None and (near := difflib.get_close_matches(asked.partition("-")[0], _NAMES, n=1)):
        code = near[0]
    if code is not None:
        return f"unknown language {value[:_MOST_CHARS]!r}; did you mean {code!r} ({_NAMES[code]})?"
    return (
        f"unknown language {value[:_MOST_CHARS]!r}; give a BCP-47 code such as 'de' or 'pt-BR', "
        "or an English name such as 'German'"
    )
