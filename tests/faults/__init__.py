"""What the service does while what it depends on, or who asks it, misbehaves: ``make faults`` and ``make soak``."""
