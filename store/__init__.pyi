"""Public names of this package, and the module each one comes from."""

from .corpus import Corpus, InvalidCorpus
from .cross_fits import CrossFit, CrossFitted, cross_fitted_views
from .doctor import Finding, examine
from .errors import MixedSignalsError, UsageError
from .exchange.incoming import import_features
from .exchange.outgoing import export_features, export_views
from .features import FeatureSet, Status
from .folder import Store
from .merging import merge
from .predictions import Run, load_run
from .provenance import Recipe
from .splits import Fold, folds, predefined_folds
from .targets import Target
from .verify import CheckedFile, check_files
from .views import Views
from .writing import FeatureWriter

__all__ = [
    "CheckedFile",
    "Corpus",
    "CrossFit",
    "CrossFitted",
    "FeatureSet",
    "FeatureWriter",
    "Finding",
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
    "check_files",
    "cross_fitted_views",
    "examine",
    "export_features",
    "export_views",
    "folds",
    "import_features",
    "load_run",
    "merge",
    "predefined_folds",
]
