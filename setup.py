"""Map the four top-level folders onto ``mixed_signals.*``; everything else is in ``pyproject.toml``."""

from setuptools import find_packages, setup

FOLDERS = ("extract", "store", "models", "analysis")

setup(
    package_dir={f"mixed_signals.{folder}": folder for folder in FOLDERS},
    packages=[
        package
        for folder in FOLDERS
        for package in (
            f"mixed_signals.{folder}",
            *(f"mixed_signals.{folder}.{name}" for name in find_packages(folder)),
        )
    ],
)
