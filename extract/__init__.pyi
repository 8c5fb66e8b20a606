"""Public names of this package, and the module each one comes from."""

from .demo.corpus import DemoCorpus, make_demo_corpus
from .encoders import PRESETS, make_encoder
from .media import Clip

__all__ = ["PRESETS", "Clip", "DemoCorpus", "make_demo_corpus", "make_encoder"]
