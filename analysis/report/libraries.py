"""The scripts of others that the page needs, taken from the installed Python packages that carry them.

- Bokeh, which draws the charts, from ``bokeh``: ``bokeh.min.js``, a classic script.
- DataTables, which is the table, from ``itables``: a bundle that is a module, which browsers refuse from the file
  system. It becomes a classic script that sets ``DataTable``.

Neither package is imported: that would take seconds, and neither is used in Python here.
"""

from __future__ import annotations

import re
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from importlib.util import find_spec
from pathlib import Path

from mixed_signals.store.errors import MixedSignalsError

SCRIPTS = ("bokeh.min.js", "datatables.js")
STYLES = ("datatables.css",)
NOTICE = "NOTICE.txt"

_BOKEH = "server/static/js/bokeh.min.js"
_BUNDLE, _BUNDLE_STYLE = "html/dt_bundle.js", "html/dt_bundle.css"
_EXPORT = re.compile(r"\bexport\s*\{([^{}]*)\}\s*;?")
_DEFAULT = re.compile(r"([\w$]+)\s+as\s+default")
_BUNDLED = re.compile(r"/\*!\s*Bundled license information:(.*?)\*/", re.DOTALL)


def write_libraries(folder: Path) -> None:
    """Write the scripts and styles of others into a folder, with a notice of whose they are.

    Raises
    ------
    MixedSignalsError
        If a package is not there, or is not as it is known.
    """
    folder.mkdir(parents=True, exist_ok=True)
    bundle = _read("itables", _BUNDLE)
    files = {
        "bokeh.min.js": _read("bokeh", _BOKEH),
        "datatables.js": as_classic(bundle, f"itables {_installed('itables').version}"),
        "datatables.css": _read("itables", _BUNDLE_STYLE),
        NOTICE: _notice(bundle),
    }
    for name, text in files.items():
        (folder / name).write_text(text, encoding="utf-8")


def as_classic(module: str, of: str) -> str:
    """Return a module that exports a table as a classic script, which sets ``globalThis.DataTable`` to its default.

    Parameters
    ----------
    module : str
        A bundle: it imports nothing and has one ``export {...}``.
    of : str
        Name and version of what carries it.

    Raises
    ------
    MixedSignalsError
        If it has not just one list of exports with a default.
    """
    exports = list(_EXPORT.finditer(module))
    default = _DEFAULT.search(exports[0][1]) if len(exports) == 1 else None
    if default is None:
        raise MixedSignalsError(
            f"{of}: its table of DataTables ({_BUNDLE}) is not a module with one default export, as it was until "
            "itables 2.9; install itables<2.10"
        )
    start, end = exports[0].span()
    body = f"{module[:start]}globalThis.DataTable={default[1]};{module[end:]}"
    return f'(function(){{"use strict";\n{body}\n}}).call(undefined);\n'


def _read(package: str, file: str) -> str:
    found = find_spec(package)
    path = Path(found.origin).parent / file if found is not None and found.origin else None
    if path is None or not path.is_file():
        raise MixedSignalsError(
            f"{package} {_installed(package).version}: has no {file}, which the report needs; install {package} again"
        )
    return path.read_text(encoding="utf-8")


def _installed(package: str) -> Distribution:
    try:
        return distribution(package)
    except PackageNotFoundError:
        raise MixedSignalsError(
            f"the report needs the package {package}, which is not installed: pip install {package}"
        ) from None


def _notice(bundle: str) -> str:
    """Return whose the files are, of which version, and under which licence."""
    said = ["The files in this folder are the work of others, as they come with Python packages of theirs."]
    for package, files in (("bokeh", SCRIPTS[:1]), ("itables", (*SCRIPTS[1:], *STYLES))):
        about = _installed(package)
        licence = ", ".join(about.metadata.get_all("License-Expression") or ["see below"])
        said.append(f"{', '.join(files)}: from {package} {about.version} ({licence})")
        said += [
            file.read_text().strip()
            for file in about.files or ()
            if file.name.upper().startswith("LICENSE") and ".dist-info" in str(file)
        ]
    said += [f"datatables.js bundles:\n{found.strip()}" for found in _BUNDLED.findall(bundle)]
    return "\n\n----\n\n".join(said) + "\n"
