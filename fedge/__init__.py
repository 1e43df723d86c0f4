"""fedge: the vocabulary that devices and servers share. Pure: no sockets, no database, no clock, no Flower, no torch."""
