"""Feature store: a corpus, its feature sets and its runs in one folder, joined by utterance id and by nothing else.

Names are loaded on first use, so that importing the package (and asking a command for its ``--help``) is quick.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
