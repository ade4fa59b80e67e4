"""Origins of web pages: exact ones, as browsers write them, or all of them."""

import pytest

from firstline.core.origins import origins_of


@pytest.mark.parametrize(
    ("text", "origins"),
    [
        ("", set()),
        (" , ", set()),
        ("*", {"*"}),
        ("https://app.example.com", {"https://app.example.com"}),
        ("HTTPS://App.Example.com:443, https://b.example:8443", {"https://app.example.com", "https://b.example:8443"}),
        ("http://localhost:3000,http://127.0.0.1:80,http://[::1]:5173", None),
        ("https://xn--bcher-kva.example", {"https://xn--bcher-kva.example"}),
    ],
)
def test_origins_are_read_as_browsers_write_them(text: str, origins: set[str] | None) -> None:
    wanted = {"http://localhost:3000", "http://127.0.0.1", "http://[::1]:5173"} if origins is None else origins
    assert origins_of(text) == wanted


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("app.example.com", "app.example.com is no origin"),
        ("https://app.example.com/", "without a path"),
        ("https://*.example.com", "or a wildcard"),
        ("https://user:hush@example.com", "is no origin"),
        ("https://bücher.example", "is no origin"),
        ("https://example.com:0", "is no origin"),
        ("https://example.com:65536", "is no origin"),
        ("null", "null is no origin"),
        ("file://", "is no origin"),
        ("https://a.example\nhttps://b.example", "one of them is no origin"),
        ("http://app.example.com", "must begin with https://"),
        ("http://localhost.example.com", "must begin with https://"),
        ("*, https://app.example.com", "already means every origin"),
        (",".join(f"https://a{number}.example" for number in range(101)), "at most 100"),
    ],
)
def test_what_is_no_origin_is_refused_with_a_sentence(text: str, says: str) -> None:
    with pytest.raises(ValueError, match=r".") as caught:
        origins_of(text)
    assert says in str(caught.value)
