"""The report of an analysis: one self-contained page, and its figures as files."""
