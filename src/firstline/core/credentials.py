"""Where passwords, keys and tokens are in a text."""

from typing import Final

from firstline.core.addresses import Span, separate
from firstline.core.expressions import Expression
from firstline.core.readable_view import BLANK, View, plain, words_pattern

_LONGEST_VALUE: Final = 4_096
_MOST_KEYWORDS: Final = 48

TOKEN_MARK: Final = (
    r"(?i)eyJ[\w-]|[srpw]k[-_]|sk-|whsec_|gh[pousr]_|github_pat|glpat-|gl[a-z]{2,4}-|xox[a-z]|xapp-|AKIA|ASIA|AIza"
    r"|ya29\.|GOCSPX"
    r"|SG\.|npm_|pypi-|hf_|do[opr]_v1|shp[a-z]{2}_|key-[0-9a-f]|\bAC[0-9a-f]{8}|\bSK[0-9a-f]{8}|sq0|EAAA|gsk_|xai-"
    r"|pplx-"
    r"|r8_|tvly-|nvapi-|ATATT|ATCTT|ATBB|lin_|ntn_|secret_|figd_|dckr_|tskey-|sntry|glsa_|NRAK|atc_|AGE-SECRET"
    r"|hooks\.|:AA"
    r"|bearer|basic |vercel_|rpa_|phc_|phx_|sbp_|[a-z]_(?:live|test|prod)_|AccountKey|dapi[0-9a-f]|\bFLWSECK|\bkey_"
    r"|\bpat[-_A-Z]"
    r"|PuTTY-User"
)
_TOKEN: Final = Expression(
    r"eyJ[A-Za-z0-9_-]{8,}(?:\.[A-Za-z0-9_-]*){0,4}"
    r"|\b(?:sk|pk|rk|ek|api|key|pat|tok|token)[-_][A-Za-z0-9_-]{16,}"
    r"|\b[A-Za-z]{2,10}_(?:live|test|prod|sandbox)_[A-Za-z0-9_-]{8,}"
    r"|\bwhsec_[A-Za-z0-9+/=_-]{12,}"
    r"|\bgh[pousr]_[A-Za-z0-9]{16,}|\bgithub_pat_[A-Za-z0-9_]{16,}|\bgl[a-z]{2,5}-[A-Za-z0-9_.-]{16,}"
    r"|\bxox[a-z]-[A-Za-z0-9-]{10,}|\bxapp-[A-Za-z0-9-]{10,}"
    r"|\b(?:AKIA|ASIA|ABIA|ACCA)[A-Z0-9]{12,}|\bAIza[A-Za-z0-9_-]{30,}|\bya29\.[A-Za-z0-9_-]{16,}"
    r"|\bGOCSPX-[A-Za-z0-9_-]{16,}"
    r"|\bSG\.[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}"
    r"|\b(?:npm|hf|gsk|r8|ntn|secret|figd|glsa|atc|phc|phx|sbp|rpa|vercel|lin_api|lin_oauth)_[A-Za-z0-9_-]{16,}"
    r"|\bdckr_pat_[A-Za-z0-9_-]{16,}|\bsntry[a-z]_[A-Za-z0-9_=+/-]{16,}|\bdo[opr]_v1_[a-f0-9]{32,}"
    r"|\bshp[a-z]{2}_[A-Fa-f0-9]{16,}"
    r"|\bpypi-[A-Za-z0-9_-]{16,}|\b(?:xai|pplx|tvly|nvapi|tskey)-[A-Za-z0-9_-]{12,}|\bkey-[0-9a-f]{32}|\b(?:AC"
    r"|SK)[0-9a-f]{32}\b"
    r"|\bsq0[a-z]{3}-[A-Za-z0-9_-]{16,}|\bEAAA[A-Za-z0-9_-]{24,}|\b(?:ATATT|ATCTT|ATBB)[A-Za-z0-9_=-]{16,}"
    r"|\bNRAK-[A-Z0-9]{20,}|\bdapi[0-9a-f]{32}|\bFLWSECK[A-Z_]*-[A-Za-z0-9-]{16,}"
    r"|\bpat[A-Za-z0-9]{14}\.[0-9a-f]{32,}"
    r"|AGE-SECRET-KEY-1[A-Z0-9]{20,}|hooks\.slack\.com/services/[A-Za-z0-9/_-]{10,}"
    r"|(?:discord(?:app)?\.com/api/webhooks)/[A-Za-z0-9/_-]{10,}|\b[0-9]{6,12}:AA[A-Za-z0-9_-]{30,}"
)
_SCHEME: Final = Expression(r"(?i)\b(?:bearer|basic|token)[ \t]+[A-Za-z0-9._~+/=-]{8,}")

URL_MARK: Final = r"://|[?&;][A-Za-z0-9_.-]{2,30}="
_USER_AND_PASSWORD: Final = Expression(r"[A-Za-z][A-Za-z0-9+.-]*://[^\s/?#\x00@]*:[^\s/?#\x00]*@")
_PARAMETER: Final = Expression(
    r"(?i)[?&;#](?:[a-z0-9_.-]*(?:token|secret|passw(?:or)?d|signature|credential|api-?_?key|apikey|auth[_-]?key"
    r"|access[_-]?key)"
    r"|key|sig|pwd|pass|auth|jwt|sid|session(?:_?id)?|phpsessid|jsessionid|code|otp|hash|hmac|ticket|state|nonce"
    r"|assertion)"
    r"=[^\s&#\x00\"'<>]{4,}"
)

_MARKS: Final = (
    r"pass ?word[es]?|pass ?phrase|pass ?code|passwd|\bpwd|\bpw|\bpsw|passwort(?:es)?|kennwort(?:es)?|zugangscode"
    r"|losungswort"
    r"|mots? de passe|\bmdp|code secret|contrase[nñ]as?|\bclave(?: secreta| de acceso)?|palavras?-passe|\bsenhas?"
    r"|password|parola d'ordine|wachtwoord(?:en)?|has[lł]o|has[lł]a|has[lł]em|парол[ьяюе]м?|пароли|şifre[a-zı]*"
    r"|\bsifre[a-z]*|parola[a-zı]*"
    r"|密码|密碼|口令|パスワ-ド|暗証番号|비밀번호|비번|패스워드|암호"
    r"|كلمة (?:المرور|السر|مرور|سر)|الرقم السري|كلمه (?:المرور|السر)"
    r"|\bpin(?:-?code|-nummer|-kod)?|пин-?код|\bcvv2?|\bcvc2?|\botp|one-time (?:code|password)|\btan\b"
    r"|api[ _-]?keys?|api-schlüssel|clé api|clave api|chiave api|chave (?:da )?api|api-sleutel|klucz api|api-ключ"
    r"|ключ api|api anahtarı"
    r"|api ?密钥|api ?キ-|api ?키|مفتاح api|secret[ _-]?(?:access[ _-]?)?keys?|client[ _-]?secret|access[ _-]?(?:token"
    r"|key)s?"
    r"|auth(?:entication|orization)?[ _-]?tokens?|refresh[ _-]?token|bearer[ _-]?token|security[ _-]?token"
    r"|private[ _-]?keys?"
    r"|encryption[ _-]?key|signing[ _-]?(?:key|secret)|account[ _-]?key|shared[ _-]?access[ _-]?key|x-api-key"
    r"|connection[ _-]?password"
    r"|recovery (?:code|phrase|key)s?|seed phrase|backup codes?|session[ _-]?(?:id|key)|\btoken|\bsecret"
    r"|секретный ключ|токен|密钥|令牌|トークン|토큰|رمز الدخول|\bpass\b"
)
PASSWORD_MARK: Final = words_pattern(_MARKS)
_KEYWORD: Final = Expression(PASSWORD_MARK)
_COPULA: Final = Expression(
    plain(
        r"(?i)^[\pL\pN_]{0,3}[\"'`*]{0,3}(?:[ \t]*\([^()\n\x00]{0,24}\))?"
        r"(?:[ \t]+(?:for|to|of|on|from|für|fürs|zum|zur|von|vom|der|pour|de|du|para|del|do|da|per|di|della|voor|van"
        r"|op|na|dla|для|от|к|için)(?:[ \t]+[\pL\pN._-]+){1,2})?"
        r"[ \t]*(?:[:=]+>?|->|=>|→)[\s]*"
    )
)
_VERB: Final = Expression(
    plain(
        r"(?i)^(?:[ \t]+(?:is|was|ist|war|lautet|est|était|es|era|fue|é|è|is|jest|to|это|был|такой|bu|şu"
        r"|-)[ \t]*:?[ \t]+"
        r"|[ \t]*(?:是|为|為|は|が|는|은|이|가|هي|هو|:)[ \t]*:?[ \t]*|[ıiuü]?m?[ \t]+|[ \t]*-[ \t]*|[ \t]+[\"'`«„“])"
    )
)
_TOKENS: Final = Expression(r"^[^\s\x00]+")
_CLOSERS: Final = ".,;:)]}>\"'`”“»。、，！？؟،*"
_QUOTES: Final = {'"': '"', "'": "'", "`": "`", "«": "»", "„": "“", "“": "”", "「": "」", "‘": "’", "”": "”"}
_ORDINARY: Final = frozenset(
    (  # noqa: SIM905  # reads better than a column of quotes
        "i it is i'm im my me we you he she they the a an and or but not no yes cannot can't cant can how what "
        "when where why who "
        "does doesn't dont don't did didn't do has have had was were wont won't will would still never always also "
        "too very so "
        "reset resets resetting change changed changing forgot forgotten lost wrong incorrect invalid expired "
        "expires empty required "
        "unknown locked blocked broken missing correct right please help thanks thank none null field page link "
        "email mail "
        "login error recovery request policy manager protected working accepted rejected being to for in on at of "
        "with this that "
        "weak strong same different different old new too secret safe secure compromised leaked stolen hacked "
        "shown visible hidden "
        "ich es ist nicht kein keine wie was wann warum vergessen verloren falsch ungültig abgelaufen zurücksetzen "
        "ändern geändert "
        "bitte hilfe danke wird wurde geht funktioniert leer unbekannt gesperrt mein der die das ein eine und oder "
        "aber "
        "je j'ai ne pas est comment quoi oublié oubliée perdu faux incorrecte invalide expiré expirée "
        "réinitialiser changer merci "
        "ne-fonctionne bloqué refusé le la les un une mon ma votre et ou mais "
        "yo no es cómo como qué cuando olvidé olvidada olvidado perdida incorrecta incorrecto inválida caducada "
        "restablecer cambiar "
        "gracias ayuda por favor mi el los las una y o pero se me "
        "eu não é esqueci perdida perdi incorreta inválida expirada redefinir alterar obrigado obrigada ajuda "
        "minha meu o os "
        "io non è dimenticata dimenticato persa errata sbagliata scaduta reimpostare cambiare grazie aiuto mia mio "
        "il lo gli "
        "ik niet hoe wat vergeten verloren onjuist fout ongeldig verlopen wijzigen resetten bedankt hulp mijn het "
        "een de "
        "nie jak co zapomniałem zapomniałam zgubione błędne nieprawidłowe wygasło zmienić zresetować proszę "
        "dziękuję moje mój "
        "я не как что забыл забыла потерял неверный неправильный неверно истёк истек сбросить сменить изменить "
        "спасибо помогите мой "
        "подходит работает принимается от для и или но "
        "ben değil nasıl ne unuttum kaybettim yanlış hatalı geçersiz süresi sıfırlama değiştirmek değiştir "
        "teşekkürler yardım ve veya"
        " 错误 忘记 忘记了 忘了 不正确 無効 忘れました 間違っています "
        "잊어버렸어요 잊었어요 틀렸습니다 틀렸어요 نسيت خاطئة غير منتهية"
    ).split()
)
_ORDINARY_STARTS: Final = (
    *(
        "错",
        "忘",
        "不",
        "无",
        "被",
        "重",
        "修",
        "已",
        "有",
        "怎",
        "是什",
        "多",
        "輸",
        "输",
        "間",
        "違",
        "変",
        "再",
        "無",
        "何",
    ),
    *("を", "が", "の", "リセ"),
    *("잊", "틀", "변", "재", "초", "만", "오류", "입력", "무"),
    *("يتم", "نسي", "لا", "غير"),
)
"""How a word after "password" begins where no space stands between words."""


def find_secrets(view: View, *, tokens: bool, urls: bool, passwords: bool) -> list[Span]:
    """Half-open spans of private keys, provider tokens, credentials in addresses, and values after "password" and
    its like in the languages that firstline reads; sorted and separate.
    """
    found = _key_blocks(view.text) if "-----BEGIN" in view.text else []
    if tokens:
        found += _TOKEN.spans(view.ascii)
        found += [
            _after_word(view.ascii, *span) for span in _SCHEME.spans(view.ascii) if _like_a_key(view.ascii, *span)
        ]
    if urls:
        for start, end in _USER_AND_PASSWORD.spans(view.ascii):
            found.append((view.ascii.index(b"://", start) + 3, end - 1))
        for start, end in _PARAMETER.spans(view.ascii):
            found.append((view.ascii.index(b"=", start) + 1, end))
    if passwords:
        found += _passwords(view)
    return separate([span for span in found if span[0] < span[1]])


def _key_blocks(text: str) -> list[Span]:
    found: list[Span] = []
    start = text.find("-----BEGIN")
    while start >= 0:
        header = text[start : start + 80].split("\n", 1)[0]
        position = start + 10
        if "PRIVATE KEY" in header:
            stop = text.find("-----END", position)
            last = text.find("-----", stop + 8, stop + 80) if stop >= 0 else -1
            position = last + 5 if last >= 0 else stop + 8 if stop >= 0 else len(text)
            found.append((start, position))
        start = text.find("-----BEGIN", position)
    return found


def _like_a_key(ascii_text: bytes, start: int, end: int) -> bool:
    """`Basic information` and `token authentication` are words; a key has digits, signs or capitals within."""
    start, end = _after_word(ascii_text, start, end)
    value = ascii_text[start:end].rstrip(b".")
    return (len(value) >= 8 and not value.isalpha() | value.islower() & value.replace(b"-", b"").isalpha()) or (
        value.isalpha() and len(value) >= 8 and not value[1:].islower() and not value.isupper()
    )


def _after_word(ascii_text: bytes, start: int, end: int) -> Span:
    position = start
    while not ascii_text[position : position + 1].isspace():
        position += 1
    while ascii_text[position : position + 1].isspace():
        position += 1
    while end > position and ascii_text[end - 1] == 0x2E:
        end -= 1
    return position, end


def _passwords(view: View) -> list[Span]:
    encoded = view.text.encode(errors="replace")
    found: list[Span] = []
    floor = 0
    for number, (start, end) in enumerate(view.code_points(encoded, _KEYWORD.spans(encoded))):
        if start < floor:
            continue
        span = _value_after(view.text, end) if number < _MOST_KEYWORDS else _next_word(view.text, end)
        if span is not None:
            found.append(span)
            floor = span[1]
    return found


def _next_word(text: str, end: int) -> Span | None:
    """What stands behind a keyword, whatever it is; for texts with more keywords than anybody writes."""
    start = end
    while start < len(text) and start < end + 3 and not text[start].isalnum():
        start += 1
    stop = start
    while stop < len(text) and stop < start + 200 and not text[stop].isspace() and text[stop] != BLANK:
        stop += 1
    return (start, stop) if stop > start + 2 else None


def _value_after(text: str, end: int) -> Span | None:
    window = text[end : end + 96]
    encoded = window.encode(errors="replace")
    told = _COPULA.spans(encoded)
    certain = bool(told)
    if not told:
        told = _VERB.spans(encoded)
        if not told or told[0][0] or text[max(0, end - 5) : end].lower().endswith("pass"):
            return None
    start = end + len(encoded[: told[0][1]].decode(errors="replace"))
    stated = bool(text[end:start].strip())
    if start > end and text[start - 1] in _QUOTES:
        start -= 1
    if start >= len(text):
        return None
    limit = min(len(text), start + _LONGEST_VALUE)
    close = _QUOTES.get(text[start])
    if close is not None:
        stop = text.find(close, start + 1, min(limit, start + 200))
        if stop > start + 1 and BLANK not in text[start:stop] and "\n" not in text[start:stop]:
            value = text[start + 1 : stop]
            if certain or not _is_ordinary(value, certain=False, stated=True, last=True):
                return start + 1, stop
            return None
        start += 1
    stop = start
    while stop < limit and not text[stop].isspace() and text[stop] != BLANK:
        stop += 1
    if stop < limit and text[stop] == BLANK:
        return None
    if "=" in text[end:start] and "&" in text[start:stop]:
        stop = text.index("&", start)
    value = text[start:stop].rstrip(_CLOSERS) if stop - start < 200 else text[start:stop]
    asks = text[start:stop].rstrip("\"'")[-1:] in "?？؟" and value.isalpha()
    ascii_part = _ascii_start(value)
    if ascii_part and ascii_part != value and ord(value[len(ascii_part)]) >= 0x530:
        value = ascii_part.rstrip(_CLOSERS)
    last = stop >= len(text) or text[stop] == "\n" or len(value) < len(text[start:stop])
    if (
        len(value) < 3
        or asks
        or _is_ordinary(
            value,
            certain=certain,
            stated=stated,
            last=last,
            shortest=3 if "cv" in text[max(0, end - 4) : end].lower() else 4,
        )
    ):
        return None
    return start, start + len(value)


def _ascii_start(value: str) -> str:
    for place, character in enumerate(value):
        if not character.isascii():
            return value[:place]
    return value


def _is_ordinary(value: str, *, certain: bool, stated: bool, last: bool, shortest: int = 4) -> bool:
    """Whether what follows is a word of the sentence rather than a password."""
    lowered = value.casefold()
    if lowered.rstrip(".,;:!?'\"") in _ORDINARY or value.startswith(_ORDINARY_STARTS):
        return True
    if "://" in value:
        return True
    letters = value.replace("-", "").replace("'", "").replace("’", "")
    if certain:
        return False
    if not letters.isalpha():
        return len(value) < shortest
    if last and stated and len(value) >= 5:
        return False
    mixed = not (value.islower() or value.isupper() or value.istitle())
    return not (mixed and value.isascii())
