"""eStar over SOAP."""
