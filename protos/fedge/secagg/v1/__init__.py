"""Version 1 of secure aggregation: `secagg.proto` (the wire), `state.proto` (a device's durable state) and their Python."""
