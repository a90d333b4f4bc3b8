"""How a peer samples: one interface, and the engines behind it."""
