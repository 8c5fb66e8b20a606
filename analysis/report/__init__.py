"""The report of an analysis: a folder with a page, its scripts, and what they work with."""
