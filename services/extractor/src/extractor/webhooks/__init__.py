"""The webhook receiver: verifies what the shop posts and appends it to Kafka, nothing more."""
