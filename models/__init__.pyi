"""Public names of this package, and the module each one comes from."""

from .attention import GatedAttentionHead, GatedAttentionRegressor
from .base import Fit, Problem
from .baselines import MeanHead, MeanRegressor, StackingHead, StackingRegressor
from .boosted import XGBoostHead, XGBoostRegressor
from .gated import GatedHead, GatedRegressor
from .heads import HEADS, head_spec
from .logistic import LogisticHead, RidgeHead
from .predicting import predict
from .saving import load_head
from .sweeps import sweep

__all__ = [
    "HEADS",
    "Fit",
    "GatedAttentionHead",
    "GatedAttentionRegressor",
    "GatedHead",
    "GatedRegressor",
    "LogisticHead",
    "MeanHead",
    "MeanRegressor",
    "Problem",
    "RidgeHead",
    "StackingHead",
    "StackingRegressor",
    "XGBoostHead",
    "XGBoostRegressor",
    "head_spec",
    "load_head",
    "predict",
    "sweep",
]
