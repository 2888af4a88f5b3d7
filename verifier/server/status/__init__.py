"""``/status`` on the ops port: how the service fares, for people; and why a token is refused, for the administrator."""
