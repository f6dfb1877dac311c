"""estarsync's pure part: no Kafka, no HTTP, no files, no clock of its own."""
