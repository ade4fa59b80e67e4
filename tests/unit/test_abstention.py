"""What the local model must not guess about: other languages, no words, spam beside a signal."""

import pytest

from firstline.adapters.local_model import LocalModel
from firstline.core.cascade import settle
from firstline.core.message import Message, facts_of
from firstline.core.policy import Policy, Threshold
from firstline.core.rules import RuleBook
from firstline.core.taxonomy import FALLBACK_CATEGORY, LANGUAGES, Contract, Decision
from firstline.core.verdict import Abstention, Verdict

UNSUPPORTED = [
    "Jag kan inte logga in på mitt konto sedan i går kväll",
    "En pääse kirjautumaan tililleni, vaikka vaihdoin salasanan",
    "Δεν μπορώ να συνδεθώ στον λογαριασμό μου",
    "ฉันเข้าสู่ระบบไม่ได้ตั้งแต่เมื่อวาน",
    "אני לא מצליח להתחבר לחשבון שלי",
    "Tôi không thể đăng nhập vào tài khoản của mình",
    "Nem tudok bejelentkezni a fiókomba tegnap óta",
]
SUPPORTED = {
    "en": "I cannot log in to my account since yesterday evening",
    "de": "Seit gestern Abend komme ich nicht mehr in mein Konto",
    "fr": "Impossible de me connecter à mon compte depuis hier soir",
    "es": "No puedo entrar en mi cuenta desde ayer por la noche",
    "pt": "Não consigo entrar na minha conta desde ontem à noite",
    "it": "Da ieri sera non riesco più ad accedere al mio account",
    "nl": "Sinds gisteravond kan ik niet meer inloggen op mijn account",
    "pl": "Od wczoraj wieczorem nie mogę zalogować się na swoje konto",
    "ru": "Со вчерашнего вечера не могу войти в свой аккаунт",
    "tr": "Dün akşamdan beri hesabıma giriş yapamıyorum",
    "zh": "从昨天晚上开始我就无法登录我的账户了",
    "ja": "昨日の夜からアカウントにログインできません",
    "ar": "لا أستطيع تسجيل الدخول إلى حسابي منذ مساء أمس",
    "ko": "어제 저녁부터 제 계정에 로그인할 수가 없습니다",
}


def decide(text: str, book: RuleBook, model: LocalModel, policy: Policy | None = None) -> Verdict:
    facts = facts_of(Message(text, Contract.DECISION))
    prediction = model.predict(text)
    matches = book.evaluate(text, facts, language=prediction.language)
    return settle(facts, matches, prediction, policy or Policy(), rules_hash="")


@pytest.mark.parametrize("text", UNSUPPORTED)
def test_an_unsupported_language_is_said_to_be_one(text: str, book: RuleBook, model: LocalModel) -> None:
    verdict = decide(text, book, model)
    assert model.predict(text).abstained is Abstention.UNSUPPORTED_LANGUAGE
    assert (verdict.category, verdict.language, verdict.needs_review) == (FALLBACK_CATEGORY, None, True)
    assert "abstained" in {reason.code for reason in verdict.reasons}


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_supported_language_is_named_and_answered(language: str, book: RuleBook, model: LocalModel) -> None:
    verdict = decide(SUPPORTED[language], book, model)
    assert (verdict.language, verdict.category) == (language, "Account Problem")
    assert verdict.subcategory in {"login", "profile", "permissions", "compromised"}


def test_a_short_message_is_not_taken_for_another_language(book: RuleBook, model: LocalModel) -> None:
    for text in ("VPN down", "wifi kaputt", "login ?", "PayPal refund plz"):
        assert model.predict(text).abstained is None


@pytest.mark.parametrize("text", ["👍👍👍👍👍👍", "!!!!!!!!!!!!!!", "12345 67890 12345"])
def test_a_message_without_words_is_no_category_s(text: str, book: RuleBook, model: LocalModel) -> None:
    assert model.predict(text).abstained is Abstention.NO_WORDS


def test_a_legal_threat_escalates_in_an_unsupported_language_too(book: RuleBook, model: LocalModel) -> None:
    text = "Jag kan inte logga in på mitt konto och min lawyer kommer att höra av sig: lawsuit"
    assert decide(text, book, model).decision is Decision.IMMEDIATE_ESCALATION


def test_below_its_threshold_a_category_gives_way_to_the_fallback(book: RuleBook, model: LocalModel) -> None:
    text = SUPPORTED["de"]
    strict = Policy(thresholds=(Threshold("Account Problem", "de", 1.0),))
    held_back = decide(text, book, model, strict)
    assert (held_back.category, held_back.needs_review) == (FALLBACK_CATEGORY, True)
    assert "threshold" in {reason.code for reason in held_back.reasons}
    assert decide(SUPPORTED["en"], book, model, strict).category == "Account Problem"
