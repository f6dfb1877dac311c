"""The loader: typed payloads in, bulk imports out."""
