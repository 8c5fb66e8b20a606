"""Where and why unimodal and fused predictions disagree: measures, typology, link to annotators, report."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
