"""Public names of this package, and the module each one comes from."""

from .analysis import Analysis, analyze
from .findings import Finding

__all__ = ["Analysis", "Finding", "analyze"]
