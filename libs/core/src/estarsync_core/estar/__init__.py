"""The shop's side: the shape of a raw record, and what the poller does with records before it publishes."""
