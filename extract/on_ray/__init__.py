"""Extraction on a Ray cluster: shards flow through Ray Data's stages, on workers that share the store's file system."""
