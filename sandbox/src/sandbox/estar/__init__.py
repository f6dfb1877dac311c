"""The sandbox shop."""
