"""What the settings of traces and reports say when they cannot be used, and what they mean when they can."""

import sys
from typing import Any

import pytest

from firstline.bootstrap_tracing import build_tracing
from firstline.settings import SettingsInvalid, load_settings

URL = "http://127.0.0.1:4318"
SECRET = "zyxwcanary"


def built(**given: Any) -> Any:
    return build_tracing(load_settings(env_file=None, **given), development=False)


def resource_of(**given: Any) -> dict[str, Any]:
    tracing = built(otlp_endpoint=URL, **given)
    return dict(tracing.tracer._tracer.resource.attributes)


def test_nothing_is_traced_and_nothing_reported_without_settings() -> None:
    tracing = built()
    assert not tracing.on
    assert tracing.processors == ()


def test_traces_can_be_switched_off_whatever_else_is_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", URL)
    assert built().on
    monkeypatch.setenv("OTEL_SDK_DISABLED", "true")
    assert not built().on


def test_the_name_of_the_service_is_as_the_standard_weighs_it() -> None:
    assert resource_of()["service.name"] == "firstline"
    assert resource_of(resource_attributes="service.name=desk")["service.name"] == "desk"
    assert resource_of(resource_attributes="service.name=desk", service_name="triage")["service.name"] == "triage"


def test_the_machine_is_not_named() -> None:
    assert set(resource_of()) == {"service.name", "service.version", "service.instance.id"}


@pytest.mark.parametrize(
    "endpoint",
    [
        "127.0.0.1:4318",
        "grpc://collector:4317",
        "http://",
        "http://user:pass@collector:4318",
        "http://collector:4318?x=1",
        "http://collector:99999",
        "http://[::1",
        "http://collector:4318/\n",
        "http://col lector",
    ],
)
def test_an_endpoint_that_is_no_base_url_is_refused_by_its_name(endpoint: str) -> None:
    with pytest.raises(SettingsInvalid, match=r"^OTEL_EXPORTER_OTLP_ENDPOINT: it must be a URL such as http"):
        built(otlp_endpoint=endpoint)


@pytest.mark.parametrize("headers", [SECRET, f"={SECRET}", f"a b={SECRET}", f"x={SECRET}%0d%0ay", f"x={SECRET}%C3%A9"])
def test_headers_that_cannot_be_sent_are_refused_without_being_quoted(headers: str) -> None:
    with pytest.raises(SettingsInvalid, match=r"^OTEL_EXPORTER_OTLP_HEADERS: ") as refused:
        built(otlp_endpoint=URL, otlp_headers=headers)
    assert SECRET not in str(refused.value)


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("OTEL_TRACES_SAMPLER", "jaeger_remote"),
        ("OTEL_TRACES_SAMPLER_ARG", "1.5"),
        ("OTEL_TRACES_SAMPLER_ARG", "nan"),
        ("OTEL_RESOURCE_ATTRIBUTES", "team"),
        ("OTEL_SDK_DISABLED", "perhaps"),
    ],
)
def test_other_values_are_refused_by_their_name(monkeypatch: pytest.MonkeyPatch, variable: str, value: str) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", URL)
    monkeypatch.setenv(variable, value)
    with pytest.raises(SettingsInvalid, match=f"^{variable}: "):
        built()


@pytest.mark.parametrize("dsn", [SECRET, f"https://{SECRET}", f"https://{SECRET}@host", f"ftp://{SECRET}@host/1"])
def test_a_dsn_that_is_none_is_refused_without_being_quoted(dsn: str) -> None:
    with pytest.raises(SettingsInvalid, match=r"^SENTRY_DSN: it is no address such as ") as refused:
        built(sentry_dsn=dsn)
    assert SECRET not in str(refused.value)


@pytest.mark.parametrize(
    ("given", "missing", "variable"),
    [
        (
            {"otlp_endpoint": URL},
            "opentelemetry.exporter.otlp.proto.http.trace_exporter",
            "OTEL_EXPORTER_OTLP_ENDPOINT",
        ),
        ({"sentry_dsn": "https://key@host/1"}, "sentry_sdk", "SENTRY_DSN"),
    ],
)
def test_without_the_extra_the_start_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, given: dict[str, Any], missing: str, variable: str
) -> None:
    for name in [name for name in sys.modules if name.startswith("firstline.adapters.tracing")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(SettingsInvalid, match=rf"^{variable} is set, .*pip install \"firstline\[telemetry\]\"\.$"):
        built(**given)
