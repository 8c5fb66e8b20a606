"""Fixtures of the tests in a real browser, which skip where there is none."""

from contextlib import ExitStack

import pytest
from browser import NoBrowserError, launched, watched


@pytest.fixture(scope="module")
def browser():
    """A browser for the tests of one module.

    It is not one for the whole session: while it runs its driver holds the thread's event loop, which others need.
    """
    try:
        with launched() as started:
            yield started
    except NoBrowserError as error:
        pytest.skip(str(error))


@pytest.fixture
def open_page(browser):
    """Return a function that opens a report's page, in a context of its own.

    A test fails where its page asked for anything but files, said an error, or opened a dialog.
    """
    with ExitStack() as stack:

        def opened(report, fragment="", **options):
            context = stack.enter_context(watched(browser, **options))
            page = context.new_page()
            page.goto(f"{report.as_uri()}{fragment}")
            return page

        yield opened
