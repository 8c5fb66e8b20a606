"""The command ``mixed-signals explore``: the report of a run, served to this machine's browser with its recordings."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from mixed_signals.store.terminal import Debug, make_app, run_app, stderr, stdout

app = make_app()


@app.command()
def explore(
    store: Annotated[Path, typer.Argument(help="Folder of the store.", show_default=False)],
    run: Annotated[
        str | None, typer.Option(help="Name of the run. (default: the only one)", show_default=False)
    ] = None,
    report: Annotated[
        Path | None,
        typer.Option(help="Folder of the report, if not in the run's own folder.", show_default=False),
    ] = None,
    media_root: Annotated[
        str | None, typer.Option(help="Where the recordings are now, if they moved.", show_default=False)
    ] = None,
    port: Annotated[int, typer.Option(min=0, max=65535, help="0: any that is free.")] = 0,
    browser: Annotated[bool, typer.Option("--browser/--no-browser", help="Open the page.")] = True,
    debug: Debug = False,
) -> None:
    """Serve the report of a run to this machine's browser, with the recordings where they are.

    For corpora too large to copy: nothing is cut or copied beforehand. Only who knows the address, which is another one
    each time, gets anything. Ctrl-C ends it.

    Example: [bold]mixed-signals explore my.store --run first[/]
    """
    import asyncio
    import logging

    from mixed_signals.analysis.explore import report_folder, serve
    from mixed_signals.store import Store

    if debug:
        logging.basicConfig(level=logging.DEBUG)
    opened = Store.open(store, media_root=media_root)
    folder = report_folder(opened, run, report)

    def tell(address: str) -> None:
        stdout().print(address, soft_wrap=True)
        sys.stdout.flush()
        stderr().print("Ctrl-C ends it")
        if browser and _has_display():
            _open_browser(address)

    try:
        asyncio.run(serve(opened, folder, port=port, on_ready=tell))
    except KeyboardInterrupt:
        stderr().print("stopped")


def _has_display() -> bool:
    """Return whether a browser would have a window to open in."""
    return not sys.platform.startswith("linux") or bool(
        os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
    )


def _open_browser(address: str) -> None:
    """Open a page beside what goes on: some browsers return only when they are closed."""
    import threading
    import webbrowser

    threading.Thread(target=webbrowser.open, args=[address], daemon=True).start()


def main() -> None:
    """Run the command line."""
    run_app(app)


if __name__ == "__main__":
    main()
