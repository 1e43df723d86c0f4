"""Messages that pass the fleet's door: enrolment, releases, rounds."""
