"""The runner: puts the vectors to an implementation, in this process or in another, and judges the answers."""
