"""The one-off extraction job: media and transcripts in, one vector per utterance and encoder out."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
