"""The verifier, its bare minimum and its peers, side by side on one machine (``make bench``)."""
