"""Public names of this package, and the module each one comes from."""

from .boosted import XGBoostHead
from .gated import GatedHead
from .heads import HEADS, make_head
from .logistic import LogisticHead
from .saving import load_head
from .sweeps import sweep

__all__ = ["HEADS", "GatedHead", "LogisticHead", "XGBoostHead", "load_head", "make_head", "sweep"]
