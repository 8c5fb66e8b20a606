"""Public names of this package, and the module each one comes from."""

from .corpus import Corpus, InvalidCorpus, Target
from .errors import MixedSignalsError, UsageError
from .exchange import import_features
from .features import FeatureSet, FeatureWriter, Status
from .folder import Store
from .predictions import Run, load_run
from .provenance import Recipe
from .splits import Fold, folds
from .views import Views

__all__ = [
    "Corpus",
    "FeatureSet",
    "FeatureWriter",
    "Fold",
    "InvalidCorpus",
    "MixedSignalsError",
    "Recipe",
    "Run",
    "Status",
    "Store",
    "Target",
    "UsageError",
    "Views",
    "folds",
    "import_features",
    "load_run",
]
