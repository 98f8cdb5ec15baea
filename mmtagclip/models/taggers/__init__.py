"""The tagger, its heads and their steps."""
