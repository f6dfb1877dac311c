"""estarsync, the command for the people who run it."""
