"""What is measured: one kind of server a module, each with the configuration that it is given."""
