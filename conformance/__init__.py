"""The judge: measures implementations against the documented formulas in exact arithmetic, and shows it can say no."""
