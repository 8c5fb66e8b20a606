"""No credentials in what is said: every form in which a library could repeat them."""

import pandas as pd
import pytest

from mixed_signals.store import Corpus, UsageError, remote, urls
from mixed_signals.store.corpus import InvalidCorpus, as_media_root
from mixed_signals.store.urls import HIDDEN, redacted

SECRETS = ("sEcr3t/Val+ue0123456789", "AKIAIOSFODNN7EXAMPLE", "hf_abcdefghijklmnopqrst")


@pytest.mark.parametrize("secret", SECRETS)
@pytest.mark.parametrize(
    "said",
    [
        "https://me:{}@host/a.wav",
        "https://me%40home:{}@host:80/a.wav",
        "s3://AKIA:{}@bucket/a.wav: no",
        "403, message='Forbidden', url='https://host/a.wav?X-Amz-Signature={}&X-Amz-Expires=1'",
        "GET /a.wav?x=1&sig={} failed",
        "{{'aws_secret_access_key': '{}', 'region': 'x'}}",
        '{{"SecretAccessKey":"{}"}}',
        "token={}; retry",
        "account_key: {}",
        "Authorization: Bearer {}",
        "<CIMultiDict('Authorization': 'AWS4-HMAC-SHA256 Credential={}/2026, Signature=00')>",
        "<Error><Token>{}</Token></Error>",
        "DefaultEndpointsProtocol=https;AccountKey={};EndpointSuffix=x",
        "-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----",
        "//me:{}@host/a.wav",
        "Authorization: token {}",
        "Cookie: session={}; other=1",
        "{{'aws_secret_access_key': 'two words {}'}}",
        "secret=['{}']",
        "https://host/a.wav%3FX-Amz-Signature%3D{}",
    ],
)
def test_credentials_are_taken_out_of_whatever_is_said(said, secret):
    shown = redacted(said.format(secret))
    assert secret not in shown
    assert HIDDEN in shown
    assert "\n" not in shown


def test_a_token_in_the_place_of_a_user_is_taken_out():
    assert redacted("https://sEcr3t@host/a.wav") == f"https://{HIDDEN}@host/a.wav"


def test_the_secrets_of_this_process_are_taken_out_wherever_they_stand(monkeypatch):
    from fsspec.config import conf

    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "plain/text+secret")
    monkeypatch.setitem(conf, "s3", {"client_kwargs": {"aws_session_token": "another one, nested"}})
    said = "so plain/text+secret, plain%2Ftext%2Bsecret and another one, nested"
    assert redacted(said) == f"so {HIDDEN}, {HIDDEN} and {HIDDEN}"


@pytest.mark.parametrize(
    "said",
    [
        "OSError: [Errno 5] Input/output error",
        "s3://bucket/folder/a b.wav: the file does not exist",
        "hf://datasets/user/name@main/a.wav",
        "KeyError: 'speech'",
        "InvalidTokenError: Unable to read it",
        "silent (below -80 dBFS)",
    ],
)
def test_what_is_no_secret_stays(said):
    assert redacted(said) == said


def test_an_exception_full_of_secrets_leaves_nothing_of_them_behind(monkeypatch):
    """As a traceback with --debug shows it: neither the reason nor what it came from."""
    import traceback

    class HostileError(OSError):
        def __str__(self):
            return f"https://host/a.wav?X-Amz-Credential={SECRETS[1]} secret={SECRETS[0]} {SECRETS[2]}\nline"

    def place(url):
        raise HostileError from ValueError(SECRETS[0])

    monkeypatch.setattr(remote, "_place", place)
    with pytest.raises(remote.Unreachable) as caught, remote.reading("s3://bucket/a.wav"):
        pass
    shown = "".join(traceback.format_exception(caught.value))
    assert not any(secret in shown for secret in SECRETS)
    assert str(caught.value).startswith(
        "it could not be read over the network (HostileError: https://host/a.wav"
    )
    with pytest.raises(Exception, match="HostileError") as planned:
        remote.look(["s3://bucket/a.wav"])
    shown = "".join(traceback.format_exception(planned.value))
    assert not any(secret in shown for secret in SECRETS)


@pytest.mark.parametrize(
    "entry", ["https://host/a.wav%3FX-Amz-Signature%3D0f", "s3://bucket/a%3Ftoken%3D0f", "a.wav%3Fsig%3D0f"]
)
def test_a_signature_that_was_quoted_once_more_is_refused_and_not_shown(entry, tmp_path):
    table = pd.DataFrame({"utterance_id": ["u"], "media": [entry]})
    with pytest.raises(InvalidCorpus, match="holds credentials or a signature") as caught:
        Corpus("c", table, media_root=tmp_path)
    assert "0f" not in str(caught.value)


def test_a_media_root_with_a_space_in_its_password_is_not_shown():
    with pytest.raises(UsageError, match="holds credentials") as caught:
        as_media_root("https://me:open sesame@host/")
    assert "sesame" not in str(caught.value)


@pytest.mark.parametrize(
    "url", ["https://host/%2e%2e/a.wav", "https://host/m/..%2Fa.wav", "https://host/m%5Ca.wav"]
)
def test_a_step_up_that_is_quoted_is_one(url):
    assert "is no plain URL" in urls.fault_of(url)


@pytest.mark.parametrize(
    "url", ["http://[::1]:8000/a.wav", "s3://bucket/a%2Fb ä#1@2.wav", "https://host/a%20b.wav"]
)
def test_plain_places_are_taken(url):
    assert urls.fault_of(url) == ""


def test_names_below_a_web_address_are_quoted():
    assert urls.below("https://host/m/", "ä #1?.wav") == "https://host/m/%C3%A4%20%231%3F.wav"
    assert urls.below("s3://bucket", "ä #1?.wav") == "s3://bucket/ä #1?.wav"
