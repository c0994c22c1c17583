"""The vectors: problems with their exact answers, as data that any language can read."""
