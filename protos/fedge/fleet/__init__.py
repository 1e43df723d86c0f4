<<<<<<< HEAD
"""Messages between a device and the fleet door."""
=======
"""Messages that pass the fleet's door: enrolment, releases, rounds."""
>>>>>>> 56c0e1023e7d22e2ef595b105aaf451df66631d3
