"""Settings that no provider can be opened with are refused by name, and a key is never quoted."""

import pytest

from firstline.adapters.llm import PROVIDERS, open_provider
from firstline.adapters.llm.opening import Opening, OpeningInvalid
from firstline.adapters.llm.prices import prices_of
from firstline.bootstrap_asking import Configured
from firstline.core.prices import Prices

KEY = "-".join(("key", "of", "a", "test"))


@pytest.mark.parametrize(
    "model", ["", " ", "a b", "../x", "a/../b", "a//b", "-m", "m?x=1", "m#x", "m\n", "m" * 201, "modèle"]
)
def test_an_odd_model_is_refused(model: str) -> None:
    with pytest.raises(OpeningInvalid) as caught:
        Opening(model=model)
    assert caught.value.field == "model"


@pytest.mark.parametrize(
    "model", ["gemini-3.5-flash-lite", "qwen3:8b", "meta-llama/Llama-3.3-70B-Instruct", "ft:gpt-4o-mini:org::x"]
)
def test_names_as_providers_write_them_are_accepted(model: str) -> None:
    assert Opening(model=model).model == model


def test_a_key_is_not_in_what_is_printed_of_its_opening() -> None:
    assert KEY not in repr(Opening(model="m", api_key=KEY))
    assert KEY not in repr(Configured("gemini", ("m",), KEY, None))


@pytest.mark.parametrize("bad", ["", "with space", "tab\tbed", "line\n", "ключ", "x" * 5000])
def test_an_odd_key_is_refused_and_not_quoted(bad: str) -> None:
    with pytest.raises(OpeningInvalid) as caught:
        Opening(model="m", api_key=bad)
    assert caught.value.field == "api_key"
    assert not bad or bad not in str(caught.value)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "api.example.org",
        "ftp://example.org",
        "file:///etc/passwd",
        "http://",
        "http://user:word@example.org",
        "http://example.org/?x=1",
        "http://example.org/#x",
        "http://example.org:port",
        "http://example.org/\n",
        "http://" + "a" * 600,
    ],
)
def test_an_odd_base_url_is_refused(url: str) -> None:
    with pytest.raises(OpeningInvalid) as caught:
        Opening(model="m", base_url=url)
    assert caught.value.field == "base_url"


def test_an_unknown_provider_is_refused_with_the_names_of_those_there_are() -> None:
    with pytest.raises(OpeningInvalid, match="must be one of gemini, openai, "):
        open_provider("mistery", model="m")


@pytest.mark.parametrize("name", [name for name in PROVIDERS if name != "compatible"])
def test_a_provider_without_a_key_is_refused(name: str) -> None:
    with pytest.raises(OpeningInvalid, match="api_key is missing"):
        open_provider(name, model="m")


def test_a_compatible_endpoint_without_an_address_is_refused() -> None:
    with pytest.raises(OpeningInvalid, match="base_url is missing"):
        open_provider("compatible", model="m")


def test_what_the_sdk_adds_to_an_address_may_be_in_it_already() -> None:
    opening = Opening(model="m", base_url="https://example.org/x/v1beta/")
    assert opening.url("", without=("/v1", "/v1beta")) == "https://example.org/x"


def test_models_of_the_published_settings_have_prices() -> None:
    for provider, model in (("gemini", "gemini-3.5-flash-lite"), ("openai", "gpt-6-luna")):
        prices = prices_of(provider, model)
        assert prices is not None
        assert 0 < prices.input_usd_per_mtok < prices.output_usd_per_mtok


def test_a_price_that_nobody_knows_is_none_until_it_is_given() -> None:
    own = Prices(1.0, 2.0)
    assert prices_of("openai", "no-such-model") is None
    assert prices_of("compatible", "qwen3:8b") is None
    assert prices_of("compatible", "qwen3:8b", overrides={"compatible/qwen3:8b": own}) == own
    assert prices_of("openai", "gpt-6-luna", overrides={"openai/gpt-6-luna": own}) == own
