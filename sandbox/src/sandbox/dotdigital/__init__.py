"""The sandbox Dotdigital."""
