"""Chaos by seed: everything is killed, frozen and confused, and in the end both sides must agree."""
