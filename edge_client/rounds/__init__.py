"""What this device does in a round: training, counts, usage, and its steps of secure aggregation. No Flower here."""
