"""The demo's corpus: words, voice and face made here, with planted conflicts between them."""
