"""The extractor: reads an eStar shop and publishes raw events."""
