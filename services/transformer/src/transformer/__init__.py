"""The transformer: raw events in, typed payloads out, exactly once."""
