"""URLs of media: which are taken, what must not stand in one, and texts without anybody's credentials."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import quote, quote_plus, unquote, urlsplit
from urllib.request import url2pathname

SCHEMES = ("s3", "s3a", "gs", "gcs", "hf", "http", "https", "az", "abfs", "abfss", "memory")
"""Protocols of `fsspec` by which media are read. What leads to this machine's own files is not among them."""

HIDDEN = "***"
"""Stands in a text for what was taken out of it."""

WITH_CREDENTIALS = (
    "holds credentials or a signature; write the place alone, and put what opens it in the environment or in fsspec's "
    "configuration"
)
"""What is wrong with a URL that opens what it names."""

_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")
_HOST = re.compile(r"(?:\[[0-9A-Fa-f:.]+\]|[^@:\[\]]+)(?::\d*)?")
_ASTRAY = re.compile(r"\\|[\x00-\x1f\x7f-\x9f\ud800-\udfff]|::(?![0-9A-Fa-f:.]*\])|/\.\.(?:/|$)")
_TELLING_NAME = (
    r"[\w.-]*(?:signature|credential|token|secret|passw(?:or)?d|passphrase|api[_-]?key|access[_-]?key|account[_-]?key"
    r"|private[_-]?key|key[_-]?(?:id|pair)|authorization|connection[_-]?string)[\w.-]*|sig|auth|policy"
)
_SIGNED = re.compile(rf"[?&#;](?:{_TELLING_NAME})=", re.IGNORECASE)
_FEWEST = 8  # characters of a secret that is looked for as it stands

_HIDDEN_PARTS = (
    (re.compile(r"(?<=//)[^\s/@'\"]*:[^\s'\"]*(?=@)|(?<=//)[^\s/'\"]+(?=@)"), HIDDEN),
    (re.compile(r"(?<=//)[^/@'\"\n]*:[^/@'\"\n]*(?=@)"), HIDDEN),
    (re.compile(r"(\w://[^\s?#'\"<>]*[?#])[^\s'\"<>]+"), rf"\1{HIDDEN}"),
    (re.compile(r"-----BEGIN [^-]*-----.*?(?:-----END [^-]*-----|$)", re.DOTALL), HIDDEN),
    (
        re.compile(r"\b(authorization|cookie)(['\"]?\s*[:=]\s*b?['\"]?)[^'\"\n]+", re.IGNORECASE),
        rf"\1\2{HIDDEN}",
    ),
    (re.compile(r"\b(bearer|basic|AWS4-HMAC-SHA256)\s+(?!realm)[^'\"\n]+", re.IGNORECASE), rf"\1 {HIDDEN}"),
    (
        re.compile(rf"(?<![\w.-])({_TELLING_NAME})(['\"]?\s*[=:]\s*[\[(]?b?)(['\"]).*?\3", re.IGNORECASE),
        rf"\1\2{HIDDEN}",
    ),
    (
        re.compile(
            rf"(?<![\w.-])((?:3F|26)?(?:{_TELLING_NAME}))(?<!error)(?<!exception)(?<!warning)(['\"]?\s*(?:[=:>]|%3D)\s*b?['\"]?)(?!\s)[^\s'\",;&<>)\]}}]+",
            re.IGNORECASE,
        ),
        rf"\1\2{HIDDEN}",
    ),
    (
        re.compile(r"\b(?:AKIA|ASIA|AROA|AIDA)[A-Z0-9]{12,}\b|\bhf_\w{16,}|\bya29\.[\w-]+|\beyJ[\w.-]{20,}"),
        HIDDEN,
    ),
)
_TELLING_VARIABLE = re.compile(
    r"key|secret|token|passw|passphrase|credential|signature|auth|connection_string|sas\b", re.IGNORECASE
)


def is_url(text: object) -> bool:
    """Return whether something is text that begins with a scheme and ``://``."""
    return isinstance(text, str) and _URL.match(text) is not None


def is_signed(text: str) -> bool:
    """Return whether a URL or a path bears a signature, a token or a key under a name that says so."""
    return ("=" in text or "%3" in text) and _SIGNED.search(unquote(text)) is not None


def fault_of(url: str) -> str:
    """Return what keeps a URL from being taken, or "" if nothing does; the URL does not stand in it.

    Taken are URLs of `SCHEMES` that name a place and no more: no user or password, no signature or token, over HTTP
    no query at all (where these stand under names that nobody can list), no step up, no chain of several.
    """
    scheme, _, place = url.partition("://")
    host, scheme = place.partition("/")[0], scheme.lower()
    if scheme.startswith("http"):
        bare = _HOST.fullmatch(host) and not re.search(r"[?#]", place)
    else:
        bare = (":" not in host or host.startswith("arn:")) and ("@" not in host or scheme.startswith("abfs"))
    if is_signed(url):
        return WITH_CREDENTIALS
    if scheme not in SCHEMES:
        return f"is of no protocol that media are read by ({', '.join(SCHEMES)})"
    if _ASTRAY.search(unquote(url) if scheme.startswith("http") else url) or not host:
        return "is no plain URL; write protocol://bucket/folder/file"
    return "" if bare else WITH_CREDENTIALS


def folder_of(url: str) -> str | None:
    """Return the path of a ``file://`` URL of this machine, or None for any other text."""
    parts = urlsplit(url) if url[:7].lower() == "file://" else None
    return url2pathname(parts.path) if parts is not None and parts.netloc in ("", "localhost") else None


def below(root: str, entry: str) -> str:
    """Return the URL of a media entry below a root that is a URL."""
    if root.lower().startswith("http"):
        entry = quote(entry, safe="/~!$&'()*+,;=:@")
    return f"{root.rstrip('/')}/{entry}"


def redacted(text: object) -> str:
    """Return a text in one line, without credentials: of URLs, by name, by form, and those that this process has.

    Taken out are users, passwords and queries of URLs, values whose name says that they are secret, keys and tokens
    of known form, and wherever they stand the secrets in the environment and in fsspec's configuration.

    Examples
    --------
    >>> redacted("GET https://me:pw@host/a.wav?X-Amz-Signature=0f: 403")
    'GET https://***@host/a.wav?*** 403'
    """
    shown = str(text)
    for secret in _own_secrets():
        shown = shown.replace(secret, HIDDEN)
    for pattern, instead in _HIDDEN_PARTS:
        shown = pattern.sub(instead, shown)
    return " ".join(shown.split())


def _own_secrets() -> list[str]:
    """Return the secrets by which this process reads media, the longest first, also as URLs write them."""
    from fsspec.config import conf

    found = {value for name, value in os.environ.items() if _TELLING_VARIABLE.search(name)}
    found |= set(_secrets(conf))
    found = {one for one in found if len(one) >= _FEWEST}
    return sorted({form for one in found for form in (one, quote(one, safe=""), quote_plus(one))}, key=len)[
        ::-1
    ]


def _secrets(values: Mapping[str, Any], secret: bool = False) -> Iterator[str]:
    for name, value in values.items():
        mine = secret or bool(_TELLING_VARIABLE.search(str(name)))
        if isinstance(value, Mapping):
            yield from _secrets(value, mine)
        elif isinstance(value, str) and mine:
            yield value
