"""What is remembered: in this process, in Redis, and the list of revocations."""
