"""The way of a query: an opinion, a route, central where it must be, an answer, and what is booked for it."""
