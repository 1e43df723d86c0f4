"""Everything that runs on a device: answering, asking central, learning, taking part in rounds. Never imports torch."""
