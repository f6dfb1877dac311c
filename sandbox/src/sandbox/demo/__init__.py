"""The demo: a whole shop, end to end."""
