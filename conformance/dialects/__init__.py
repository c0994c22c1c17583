"""Dialects: where documented optimizers of the same name compute different things."""
