"""Implementations that the suite knows how to ask: refoptim, torch and others, each where it is installed."""
