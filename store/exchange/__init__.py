"""Feature sets from elsewhere and for elsewhere: files in, files out, joined by utterance id only."""
