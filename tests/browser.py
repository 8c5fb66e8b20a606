"""A real browser for tests and benchmarks: Debian's Chromium, driven by playwright, and pages that are watched.

Nothing is installed here. The browser is $MIXED_SIGNALS_CHROMIUM, or the first of `NAMES` that the system has.
"""

from __future__ import annotations

import os
import re
import shutil
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import unquote, urlsplit

NAMES = ("chromium", "chromium-browser", "google-chrome")
INSTALL = "apt-get install chromium, or name a browser in MIXED_SIGNALS_CHROMIUM"
FLAGS = ("--autoplay-policy=no-user-gesture-required", "--disable-gpu", "--mute-audio")


class NoBrowserError(Exception):
    """There is no browser, or nothing that drives it; the message says how to get it."""


def browser_path():
    """Return the program, if there is one and what drives it is installed.

    Raises
    ------
    NoBrowserError
        Otherwise.
    """
    if find_spec("playwright") is None:
        raise NoBrowserError("no playwright: pip install playwright")
    named = os.environ.get("MIXED_SIGNALS_CHROMIUM")
    found = next(filter(None, map(shutil.which, [named] if named else NAMES)), None)
    if found is None:
        raise NoBrowserError(f"no browser {named or 'Chromium'}: {INSTALL}")
    return found


@contextmanager
def launched(*flags):
    """Start a browser, and end it."""
    path = browser_path()
    from playwright.sync_api import sync_playwright

    as_root = ["--no-sandbox"] if os.geteuid() == 0 else []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=[*FLAGS, *as_root, *flags])
        yield browser
        browser.close()


@contextmanager
def watched(browser, *, allowed=("file:",), **options):
    """Yield a context whose pages must stay silent: no error, no dialog, no request but to addresses `allowed`.

    Parameters
    ----------
    browser : Browser
    allowed : tuple of str
        How addresses begin that a page may ask for, besides those that hold their own data.
    **options
        Of the context.
    """
    faults = []

    def console(message):
        if message.type == "error":
            faults.append(f"console: {message.text}")

    def dialog(opened):
        faults.append(f"dialog: {opened.message}")
        opened.dismiss()

    def request(asked):
        if not asked.url.startswith((*allowed, "data:", "blob:")):
            faults.append(f"request: {asked.url}")

    def failed(asked):
        if asked.failure != "net::ERR_ABORTED":  # as a player's file is when another one is opened
            faults.append(f"not there: {asked.url} ({asked.failure})")

    context = browser.new_context(**{"viewport": {"width": 1280, "height": 900}} | options)
    context.set_default_timeout(30_000)
    context.on("console", console)
    context.on("weberror", lambda error: faults.append(f"error: {error.error}"))
    context.on("dialog", dialog)
    context.on("request", request)
    context.on("requestfailed", failed)
    try:
        yield context
    finally:
        context.close()
    assert not faults, "\n".join(dict.fromkeys(faults))


def inside(folder, url):
    """Return whether a file's address is below a folder."""
    path = Path(unquote(urlsplit(url).path)).resolve()
    return url.startswith("file:") and path.is_relative_to(Path(folder).resolve())


def luminance(colour):
    """Return the relative luminance of a computed colour, ``rgb(0, 0, 0)`` (WCAG 2.2)."""
    levels = [float(part) / 255 for part in re.findall(r"[\d.]+", colour)[:3]]
    linear = [level / 12.92 if level <= 0.04045 else ((level + 0.055) / 1.055) ** 2.4 for level in levels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one, other):
    """Return the contrast ratio of two computed colours (WCAG 2.2)."""
    dark, light = sorted((luminance(one), luminance(other)))
    return (light + 0.05) / (dark + 0.05)
