"""The default profile, as package data: everything about eStar that the public pages do not settle."""
