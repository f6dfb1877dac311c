"""The sandbox shop: a twin of eStar's published SOAP API over a shop in memory."""

from pathlib import Path


def profile_path() -> Path:
    """The tenant profile of the sandbox shop, generated or from a file."""
    return Path(__file__).with_name("profile.yaml")
