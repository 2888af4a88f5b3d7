"""How bytes get in: the HTTP server, the data port and the ops port."""
