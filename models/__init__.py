"""Lightweight heads on cached features, and the sweep that trains them over subsets, folds and seeds."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
