"""estarsync's edges: everything here touches the outside world."""
