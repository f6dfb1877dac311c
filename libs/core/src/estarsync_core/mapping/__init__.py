"""From a raw event to a Dotdigital payload: one module per entity, functions only."""
