"""Every disguise that docs/rules.md names is seen through, and every span leads back to the original."""

import pytest

from firstline.core.folding import MAX_VIEWS, Trace, fold, views, words_of

VOCABULARY = frozenset({"i", "will", "sue", "you", "lawyer"})


def readings(text: str) -> list[str]:
    return [view.words for view in views(text, vocabulary=VOCABULARY)]


@pytest.mark.parametrize(
    ("disguised", "plain"),
    [
        pytest.param("l\u200bawy\u200der", "lawyer", id="zero-width"),
        pytest.param("law\u00adyer", "lawyer", id="soft hyphen"),
        pytest.param("la\u0000wyer", "lawyer", id="control character"),
        pytest.param("\u202elawyer\u202c", "lawyer", id="direction override"),
        pytest.param("ｌａｗｙｅｒ", "lawyer", id="full-width"),
        pytest.param("𝐥𝐚𝐰𝐲𝐞𝐫", "lawyer", id="mathematical bold"),
        pytest.param("𝓵𝓪𝔀𝔂𝓮𝓻", "lawyer", id="script"),
        pytest.param("Ⓛⓐⓦⓨⓔⓡ", "lawyer", id="circled"),
        pytest.param("🅛🅐🅦🅨🅔🅡", "lawyer", id="negative circled"),
        pytest.param("🅻🅰🆆🆈🅴🆁", "lawyer", id="negative squared"),
        pytest.param("lаwуer", "lawyer", id="Cyrillic mixed in"),
        pytest.param("lαwyεr".replace("ε", "e"), "lawyer", id="Greek mixed in"),
        pytest.param("ѕuе", "sue", id="mostly Cyrillic"),
        pytest.param("ʟᴀᴡʏᴇʀ", "lawyer", id="small capitals"),
        pytest.param("ʟɑwyɘr", "lawyer", id="phonetic letters"),
        pytest.param("сօսrt", "court", id="Armenian and Cyrillic"),
        pytest.param("ᏞᎪᎳyᎬr", "lawyer", id="Cherokee"),
        pytest.param("l4wyer", "lawyer", id="4 for a"),
        pytest.param("1awyer", "lawyer", id="1 for l"),
        pytest.param("l@wyer", "lawyer", id="at sign for a"),
        pytest.param("$ue", "sue", id="dollar for s"),
        pytest.param("5u3", "sue", id="digits at both ends"),
        pytest.param("s u e", "sue", id="spaced out"),
        pytest.param("l.a.w.y.e.r", "lawyer", id="dotted"),
        pytest.param("l-a-w-y-e-r", "lawyer", id="dashed"),
        pytest.param("l_a_w_y_e_r", "lawyer", id="underscored"),
        pytest.param("law-yer", "lawyer", id="split by a dash"),
        pytest.param("l 4 w y e r", "lawyer", id="spaced out and with a digit"),
        pytest.param("suuue", "sue", id="repeated"),
        pytest.param("l&#97;wyer", "lawyer", id="numeric entity"),
        pytest.param("l&zwnj;awyer", "lawyer", id="named entity"),
        pytest.param("<b>law</b>yer", "lawyer", id="tags"),
        pytest.param("law<!-- x -->yer", "lawyer", id="comment"),
        pytest.param("láwÿer", "lawyer", id="accents"),
        pytest.param("l̶a̶w̶y̶e̶r̶", "lawyer", id="struck through"),
    ],
)
def test_a_disguised_word_is_read_as_the_plain_one(disguised: str, plain: str) -> None:
    assert f" {plain} " in readings(disguised)


def test_a_one_is_read_as_l_and_as_i() -> None:
    assert {" lawyer ", " file "} <= {*readings("1awyer"), *readings("f1le")}
    assert {" flle ", " file "} <= set(readings("f1le"))


def test_letters_written_one_by_one_are_split_into_known_words() -> None:
    assert " i sue you " in readings("I s u e y o u")
    assert " i will sue you " in readings("I w i l l s u e y o u")


def test_letters_that_spell_no_known_words_are_one_word() -> None:
    assert " xqzw " in readings("x q z w")


def test_a_wider_gap_separates_spaced_out_words() -> None:
    assert " sue you " in readings("s u e   y o u")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Straße", " strasse "),
        ("ÆØŁđ œ", " aeold oe "),
        ("Iİıi", " iiii "),
        ("ёлка", " елка "),
        ("المُحامِي", " المحامي "),
        ("إجراءات أمام المحكمة", " اجراءات امام المحكمه "),
        ("محـــامي", " محامي "),
        ("ｶﾞｿﾘﾝ", " ガ ソ リ ン "),
        ("我要起诉", " 我 要 起 诉 "),
        ("VPN连不上", " vpn 连 不 上 "),
        ("법적 조치", " 법적 조치 "),
        ("١٢٣", " 123 "),
    ],
)
def test_scripts_are_folded_as_their_readers_expect(text: str, words: str) -> None:
    assert words_of(fold(text)) == words


@pytest.mark.parametrize(
    "text", ["Я подам на вас в суд", "Мой адвокат свяжется с вами", "Θα κινηθώ νομικά εναντίον σας"]
)
def test_words_of_another_alphabet_are_left_alone(text: str) -> None:
    assert len(readings(text)) == 1
    assert not any("a" <= letter <= "z" for letter in readings(text)[0])


def test_a_word_of_two_scripts_is_read_in_the_one_that_most_letters_are_of() -> None:
    assert words_of(fold("cуд")) == " суд "
    assert words_of(fold("lаwуer")) == " lawyer "


def test_a_plain_message_has_one_reading() -> None:
    assert readings("My lawyer will call you. Is that clear?") == [" my lawyer will call you . is that clear . "]


def test_prices_and_times_stay_what_they_are_in_the_plain_reading() -> None:
    assert readings("Paid $45 at 10:30")[0] == " paid 45 at 10 30 "


def test_sentences_and_paragraphs_end_with_a_stop() -> None:
    assert words_of(fold("One.Two")) == " one two "
    assert words_of(fold("One. Two")) == " one . two "
    assert words_of(fold("One\n\nTwo")) == " one . two "
    assert words_of(fold("什么？好")) == " 什 么 . 好 "


def test_a_text_full_of_disguises_still_has_few_readings() -> None:
    text = "<b>l4w</b>&amp; s.u.e s u u u e 1-1-1 suuuue lаwуer а1а1 @ll $$$e"
    assert 1 < len(views(text, vocabulary=VOCABULARY)) <= MAX_VIEWS


@pytest.mark.parametrize(
    ("text", "word", "original"),
    [
        ("I will sue you", "sue", "sue"),
        ("so: s u e!", "sue", "s u e"),
        ("a l\u200baw\u200byer.", "lawyer", "l\u200baw\u200byer"),
        ("das ist Ｌａｗｙｅｒ hier", "lawyer", "Ｌａｗｙｅｒ"),
        ("le garçon là", "garcon", "garçon"),
        ("der Straße entlang", "strasse", "Straße"),
        ("ein u\u0308bel da", "ubel", "u\u0308bel"),
    ],
)
def test_a_span_of_folded_words_is_traced_back_to_the_original(text: str, word: str, original: str) -> None:
    trace = Trace(text)
    found = set()
    for view in views(text, vocabulary=VOCABULARY):
        place = view.words.find(f" {word} ")
        if place >= 0:
            start, end = trace.locate(view, place, place + len(word) + 2)
            found.add(text[start:end])
    assert found == {original}


def test_a_span_whose_way_back_is_uncertain_is_the_whole_text() -> None:
    text = "oh: l&#97;wyer"
    view = next(view for view in views(text) if " lawyer " in view.words)
    place = view.words.index("lawyer")
    assert Trace(text).locate(view, place, place + 6) == (0, len(text))
