"""The topic declarations and Avro schemas as package data: read them with `importlib.resources`."""
