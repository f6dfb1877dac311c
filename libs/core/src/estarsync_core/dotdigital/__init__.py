"""Dotdigital's side: data fields, payloads, what an answer means, and how a read-back is compared."""
