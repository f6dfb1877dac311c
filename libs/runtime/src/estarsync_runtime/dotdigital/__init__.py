"""Dotdigital over HTTP."""
