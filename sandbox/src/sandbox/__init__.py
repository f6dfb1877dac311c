"""Sandbox twins of the outside world, a broker for development, and the demo."""
