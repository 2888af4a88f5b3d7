"""One service that every gateway asks: may this bearer token do this?"""

__version__ = "0.1.0"
