"""One image's result, written and read in one place."""
