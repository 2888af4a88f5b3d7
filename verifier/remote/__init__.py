"""I/O out: everything that is fetched, through one HTTP client."""
