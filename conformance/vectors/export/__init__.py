"""Exports of the vectors for languages that would rather not read JSON."""
